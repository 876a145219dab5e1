from tests.optable import case, normal, op

op("conv1d",
   case(normal(2, 3, 11), normal(4, 3, 3), normal(4)),
   case(normal(3, 11), normal(4, 3, 3), stride=2, padding=1, dilation=2),
   case(normal(2, 4, 9), normal(6, 2, 4), normal(6), groups=2, padding="same"))
op("conv2d",
   case(normal(2, 3, 7, 9), normal(4, 3, 3, 2), normal(4)),
   case(normal(3, 7, 9), normal(4, 3, 3, 2), normal(4), padding=1),
   case(normal(2, 4, 8, 7), normal(6, 2, 3, 3), normal(6), stride=(2, 3), padding=(1, 2), dilation=(2, 1), groups=2),
   case(normal(2, 3, 6, 7), normal(2, 3, 1, 1)),
   case(normal(2, 3, 6, 7), normal(2, 3, 1, 1), stride=2),
   case(normal(2, 3, 5, 6), normal(4, 3, 2, 4), padding="same", dilation=(1, 3)),
   case(normal(2, 3, 5, 6), normal(4, 3, 2, 4), padding="valid"),
   case(normal(2, 4, 7, 6), normal(4, 1, 3, 3), normal(4), padding=1, groups=4),
   case(normal(2, 3, 7, 8), normal(6, 1, 3, 2), stride=2, padding=(2, 1), dilation=(1, 2), groups=3),
   case(normal(0, 3, 5, 5), normal(2, 3, 3, 3), normal(2)),
   case(normal(1, 1, 1, 1), normal(1, 1, 1, 1), normal(1)),
   case(normal(2, 2, 3, 3), normal(2, 2, 3, 3), padding=4, stride=3))
op("conv3d",
   case(normal(2, 2, 4, 5, 6), normal(3, 2, 2, 3, 2), normal(3)),
   case(normal(2, 4, 5, 4, 6), normal(4, 2, 3, 2, 1), stride=(2, 1, 2), padding=(1, 0, 1), dilation=(1, 2, 1),
        groups=2),
   case(normal(2, 2, 3, 4, 3), normal(2, 1, 2, 2, 2), normal(2), padding="same", groups=2))
op("conv_transpose1d",
   case(normal(2, 3, 5), normal(3, 4, 3), normal(4), stride=2, padding=1, output_padding=1),
   case(normal(3, 5), normal(3, 4, 3), dilation=2))
op("conv_transpose2d",
   case(normal(2, 3, 4, 5), normal(3, 4, 3, 2), normal(4)),
   case(normal(2, 4, 4, 3), normal(4, 3, 3, 3), normal(6), stride=(2, 3), padding=1, output_padding=(1, 2), groups=2,
        dilation=(2, 1)),
   case(normal(2, 3, 4, 4), normal(3, 1, 2, 2), stride=2, groups=3),
   case(normal(0, 3, 4, 4), normal(3, 2, 2, 2), normal(2)))
op("conv_transpose3d",
   case(normal(1, 2, 3, 2, 3), normal(2, 3, 2, 3, 2), normal(3), stride=(1, 2, 1), output_padding=(0, 1, 0)))
