from tests.optable import case, integers, normal, op

op("einsum", case("ij,jk->ik", normal(3, 4), normal(4, 2)), case("ij,jk", normal(3, 4), normal(4, 2)),
   case("bij, bjk -> bik", normal(2, 3, 4), normal(2, 4, 5)), case("ii", normal(3, 3)), case("ii->i", normal(3, 3)),
   case("ijj->ji", normal(2, 3, 3)), case("i,j->ij", normal(3), normal(4)), case("ij->ji", normal(2, 3)),
   case("ij->", normal(2, 3)), case("...ij,...jk->...ik", normal(5, 1, 3, 4), normal(2, 4, 2)),
   case("...i,i", normal(2, 3, 4), normal(4)), case("...i->i...", normal(2, 3, 4)), case("...", normal(2, 3)),
   case("bhqd,bhkd->bhqk", normal(2, 2, 3, 4), normal(2, 2, 5, 4)), case("i,i,i->i", normal(3), normal(3), normal(3)),
   case("ij,jk,kl->il", normal(2, 3), normal(3, 4), normal(4, 2)), case("ij,kj->k", normal(2, 3), normal(4, 3)),
   case("ij,ij->ij", normal(1, 3), normal(2, 3)), case("ij,ik->jk", normal(1, 3), normal(4, 2)),
   case("a...b,b...->...a", normal(2, 3, 4), normal(4, 3)), case("ij,jk->ik", normal(0, 4), normal(4, 2)),
   case("ij,jk->ik", normal(3, 0), normal(0, 2)), case("ij,jk->ik", [normal(3, 4), normal(4, 2)]),
   case("zA,Az", normal(2, 3), normal(3, 2)), case("ba", normal(2, 3)), case(",i->i", normal(), normal(3)),
   case("ij,jk->ik", integers(-3, 4, 2, 3), integers(-3, 4, 3, 2)))
op("tensordot", case(normal(2, 3, 4), normal(3, 4, 5)), case(normal(2, 3), normal(4, 5), 0),
   case(normal(2, 3, 4), normal(4, 2, 5), dims=([0, 2], [1, 0])), case(normal(3), normal(3), 1),
   case(normal(2, 3, 4), normal(5, 4), dims=([-1], [-1])), case(normal(2, 1), normal(4, 3), dims=([1], [0])))
op("inner", case(normal(3), normal(3)), case(normal(2, 3, 4), normal(5, 4)), case(normal(), normal(2, 3)),
   case(normal(2, 3), normal()), case(normal(0, 3), normal(2, 3)))
op("vdot", case(normal(4), normal(4)))
op("kron", case(normal(2, 3), normal(4, 2)), case(normal(3), normal(2, 2, 2)), case(normal(), normal(3)),
   case(normal(2, 0), normal(2, 2)))
op("chain_matmul", case(normal(2, 3), normal(3, 1), normal(1, 4), normal(4, 2)), case(normal(2, 3)),
   case(normal(9, 1), normal(1, 8), normal(8, 2)))
op("addmv", case(normal(3), normal(3, 4), normal(4)), case(normal(), normal(3, 4), normal(4), beta=2, alpha=0.5),
   case(normal(1).constant(), normal(3, 4), normal(4), beta=0))
op("addbmm", case(normal(3, 5), normal(2, 3, 4), normal(2, 4, 5)),
   case(normal(5), normal(2, 3, 4), normal(2, 4, 5), beta=0.5, alpha=2))
op("addr", case(normal(3, 4), normal(3), normal(4)), case(normal(4), normal(3), normal(4), beta=0.5, alpha=-2))
