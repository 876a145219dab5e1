from tests.optable import boolean, case, integers, normal, op

op("reshape", case(normal(4, 6), (3, 8)), case(normal(4, 6), (2, -1)), case(normal(2, 3, 4), (-1,)),
   case(normal(0, 3), (3, 0)), case(normal(), (1, 1)), case(normal(1), ()), case(normal(2, 3, 4, 5), (6, 20)))
op("flatten", case(normal(2, 3, 4)), case(normal(2, 3, 4, 5), 1), case(normal(2, 3, 4, 5), 1, 2), case(normal()),
   case(normal(0, 3, 2), 1), case(normal(2, 3), start_dim=-1, end_dim=-1))
op("ravel", case(normal(2, 3, 4)), case(normal()), case(normal(0, 2)))
op("unflatten", case(normal(2, 12), 1, (3, 4)), case(normal(12, 2), 0, (-1, 4)), case(normal(2, 6, 3), -2, (2, 3, 1)))
op("squeeze", case(normal(1, 3, 1, 2)), case(normal(1, 3, 1), 0), case(normal(1, 3, 1), (0, -1)), case(normal(2, 3), 0),
   case(normal()), case(normal(1)))
op("unsqueeze", case(normal(2, 3), 0), case(normal(2, 3), -1), case(normal(2, 3), 1), case(normal(), 0),
   case(normal(0, 2), 2))
op("permute", case(normal(2, 3, 4), (2, 0, 1)), case(normal(2, 3, 4, 5), (0, -1, 1, 2)), case(normal(), ()),
   case(normal(0, 3), dims=(1, 0)))
op("transpose", case(normal(2, 3, 4), 0, 2), case(normal(2, 3), -1, -2), case(normal(2, 3, 4), 1, 1),
   case(normal(), 0, -1))
op("swapaxes", case(normal(2, 3, 4), 0, 2))
op("swapdims", case(normal(2, 3, 4), 1, 2))
op("t", case(normal(2, 3)), case(normal(3)), case(normal()))
op("adjoint", case(normal(4, 2, 3)))
op("movedim", case(normal(2, 3, 4), 0, 2), case(normal(2, 3, 4, 5), (0, 1), (-1, -2)), case(normal(2, 3, 4), 2, 0),
   case(normal(2, 3, 4, 5), (3, 0), (0, 2)))
op("moveaxis", case(normal(2, 3, 4), -1, 0))
op("broadcast_to", case(normal(3, 1), (2, 3, 4)), case(normal(1), (3,)), case(normal(), (2, 2)),
   case(normal(1, 3), (0, 3)), case(normal(2, 3), (2, 3)))
op("broadcast_tensors", case(normal(3, 1), normal(1, 4)), case(normal(2, 3, 1), normal(3, 4), normal()),
   case(normal(2)))
op("select", case(normal(3, 4), 0, 1), case(normal(3, 4), 1, -1), case(normal(3), 0, 2), case(normal(2, 3, 4), -2, 0))
op("narrow", case(normal(5, 4), 0, 1, 3), case(normal(5, 4), 1, -2, 2), case(normal(5), 0, 5, 0),
   case(normal(2, 0), 1, 0, 0))
op("diagonal", case(normal(3, 4)), case(normal(3, 4), 1), case(normal(2, 3, 4), -1, 1, 2),
   case(normal(3, 4, 2), 0, -1, 0), case(normal(3, 4), 4))
op("diag", case(normal(3)), case(normal(3), 2), case(normal(3), -1), case(normal(3, 4)), case(normal(3, 4), -1),
   case(normal(3, 4), diagonal=1))
op("diag_embed", case(normal(2, 3)), case(normal(3), 1), case(normal(2, 3), -2), case(normal(2, 3), 0, 0, 2),
   case(normal(2, 3), offset=1, dim1=0, dim2=1), case(normal(2, 3), 1, 2, 0))
op("trace", case(normal(3, 3)), case(normal(2, 5)), case(integers(0, 9, 3, 3)))
op("tril", case(normal(3, 4)), case(normal(2, 4, 3), 1), case(normal(3, 3), diagonal=-1), case(boolean(3, 3)))
op("triu", case(normal(3, 4)), case(normal(2, 4, 3), 1), case(normal(3, 3), diagonal=-1), case(integers(0, 9, 3, 3)))
op("flip", case(normal(3, 4), (0,)), case(normal(2, 3, 4), (0, -1)), case(normal(3), (0,)), case(normal(3, 4), ()))
op("fliplr", case(normal(3, 4)))
op("flipud", case(normal(3, 4)), case(normal(3)))
op("roll", case(normal(3, 4), 1), case(normal(3, 4), -2, 1), case(normal(3, 4), (1, 2), (0, 1)), case(normal(5), 7, 0),
   case(normal(3, 4), (1, 1), (0, 0)), case(normal(0), 1, 0))
op("tile", case(normal(2, 3), (2, 2)), case(normal(2, 3), (2,)), case(normal(3), (2, 1, 3)), case(normal(2, 3), (0, 1)),
   case(normal(), (2,)))
op("repeat_interleave", case(normal(2, 3), 2), case(normal(2, 3), 2, 0), case(normal(2, 3), 3, dim=-1),
   case(normal(2, 3), integers(0, 4, 3), 1), case(normal(2, 3), 0, 1), case(normal(4), integers(0, 4, 4)),
   case(integers(0, 4, 5)))

# joining and splitting
op("cat", case([normal(2, 3), normal(4, 3)]), case([normal(2, 3), normal(2, 1), normal(2, 2)], 1),
   case([normal(0), normal(2, 3)], 0), case([normal(2, 0), normal(2, 3)], dim=-1), case([normal(3)]),
   case([normal(2, 3, 2, 2), normal(2, 1, 2, 2)], 1), case([normal(2, 3), integers(0, 5, 2, 3)]))
op("concat", case([normal(2, 3), normal(4, 3)]))
op("concatenate", case([normal(2, 3), normal(4, 3)]))
op("stack", case([normal(2, 3), normal(2, 3)]), case([normal(2, 3), normal(2, 3)], 1),
   case([normal(3), normal(3)], dim=-1), case([normal(), normal(), normal()]), case([normal(0, 2), normal(0, 2)], 2))
op("hstack", case([normal(3), normal(2)]), case([normal(2, 3), normal(2, 1)]), case([normal(), normal(2)]))
op("vstack", case([normal(3), normal(3)]), case([normal(2, 3), normal(3)]), case([normal(), normal()]))
op("dstack", case([normal(3), normal(3)]), case([normal(2, 3), normal(2, 3)]), case([normal(2, 3, 1), normal(2, 3, 2)]))
op("split", case(normal(5, 2), 2), case(normal(5, 2), [1, 4]), case(normal(2, 6), 3, 1), case(normal(0, 2), 3),
   case(normal(5, 2), 7), case(normal(5, 2), (5, 0), dim=0))
op("chunk", case(normal(6, 2), 3), case(normal(7, 2), 3), case(normal(4, 5), 4, 1), case(normal(3), 5),
   case(normal(0, 3), 2))
op("tensor_split", case(normal(7, 2), 3), case(normal(7, 2), (2, 5)), case(normal(3, 7), (1, -2), 1),
   case(normal(2), 4), case(normal(7, 2), (5, 2)), case(normal(7), (1, 9)))
op("unbind", case(normal(3, 4)), case(normal(3, 4), 1), case(normal(3)), case(normal(2, 0), 1),
   case(normal(1, 2), dim=-2))
op("atleast_1d", case(normal()), case(normal(2, 3)), case(normal(), normal(3)))
op("atleast_2d", case(normal()), case(normal(3)), case(normal(2, 3)))
op("atleast_3d", case(normal()), case(normal(3)), case(normal(2, 3)), case(normal(2, 3, 4)))
op("meshgrid", case(normal(2), normal(3), indexing="ij"), case(normal(2), normal(3), indexing="xy"),
   case(normal(2), normal(), normal(3), indexing="xy"), case(normal(2), indexing="ij"))
op("column_stack", case([normal(3), normal(3, 2)]), case([normal(), normal(1, 2)]), case([normal(2, 3), normal(2, 1)]))
op("row_stack", case([normal(3), normal(2, 3)]))
op("block_diag", case(normal(2, 3), normal(1, 2)), case(normal(3), normal(), normal(2, 2)),
   case(normal(0, 2), normal(2, 1)))
op("cartesian_prod", case(normal(2), normal(3)), case(normal(3)), case(normal(2), normal(1), normal(2)))
op("combinations", case(normal(4)), case(normal(4), 3), case(normal(3), 2, True), case(normal(2), r=3),
   case(normal(3), 1, with_replacement=True))
op("hsplit", case(normal(2, 6), 3), case(normal(6), 2), case(normal(2, 5), (1, 3)))
op("vsplit", case(normal(6, 2), 3), case(normal(5, 2), (1, 3)))
op("dsplit", case(normal(2, 3, 6), 3), case(normal(1, 2, 5), (1, 3)))
op("rot90", case(normal(2, 3)), case(normal(2, 3), 2), case(normal(2, 3), -1), case(normal(2, 3, 4), 1, (2, 0)),
   case(normal(2, 3), k=4, dims=(0, 1)))
op("diagflat", case(normal(3)), case(normal(2, 2), 1), case(normal(), -1))

# padding
op("pad", case(normal(3, 4), (1, 2)), case(normal(3, 4), (1, 2, 0, 3)), case(normal(3, 4), (-1, 2)),
   case(normal(3, 4), (-2, -2)), case(normal(2, 3), (1, 1), "constant", 2.5), case(normal(0, 3), (1, 0)),
   case(normal(2, 3, 4, 5), (1, 0, 2, 1)), case(integers(0, 9, 2, 3), (1, 1), value=7), case(normal(3), ()),
   case(normal(2, 3), (0, 0, 1, 0)), case(normal(2, 5), (2, 1), "reflect"),
   case(normal(2, 3, 4, 5), (4, 1, 0, 3), mode="reflect"),
   case(normal(1, 2, 3, 4, 5), (1, 2, 3, 0, 2, 2), mode="reflect"), case(normal(2, 5), (3, -3), mode="reflect"),
   case(normal(2, 5), (-1, 3), mode="reflect"), case(normal(0, 2, 5), (1, 1), mode="reflect"),
   case(normal(2, 1), (2, 1), mode="replicate"), case(normal(2, 3, 4, 5), (6, 1, 0, 2), mode="replicate"),
   case(normal(1, 2, 3, 2, 3), (1, 2, 3, 0, 2, 2), mode="replicate"), case(normal(2, 5), (2, -3), mode="replicate"),
   case(normal(2, 5), (5, 1), mode="circular"), case(normal(2, 3, 4, 5), (4, 1, 0, 3), mode="circular"),
   case(normal(1, 2, 3, 4, 5), (1, 2, 3, 0, 2, 3), mode="circular"), case(normal(2, 5), (2, -1), mode="circular"),
   case(normal(2, 5), (-1, 2), mode="circular"))
