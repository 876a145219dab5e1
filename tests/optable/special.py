from tests.optable import case, integers, normal, op, positive, uniform

op("lgamma", case(positive(3, 5)), case(uniform(3, 60, 5)), case(uniform(-4.9, -4.1, 5)), case(uniform(-0.9, -0.1, 5)),
   case(normal(0)), halves=False)
op("digamma", case(positive(3, 5)), case(uniform(3, 60, 5)), case(uniform(-4.9, -4.1, 5)), case(normal(0)),
   halves=False)
for _n in (0, 1, 2, 4):
    op("polygamma", case(_n, positive(3, 5)), case(_n, uniform(3, 60, 5)), halves=False)
op("mvlgamma", case(uniform(2, 5, 3, 4), 3), case(uniform(0.5, 5, 3), 1), halves=False)
op("erfinv", case(uniform(-0.99, 0.99, 3, 5)), case(uniform(-0.01, 0.01, 5)), case(normal(0)), halves=False)
op("logit", case(uniform(0.1, 0.9, 3, 5)), case(uniform(0.1, 0.9, 9), 0.3), case(uniform(0.1, 0.9, 9), eps=0.01))
op("sinc", case(normal(3, 5)), case(normal(0)))
op("logaddexp2", case(normal(3, 4), normal(3, 4)), case(normal(3, 1), normal(4)))
op("ldexp", case(normal(3, 4), integers(0, 4, 4)), case(normal(3), normal(3)))
op("frexp", case(normal(3, 4)), case(normal(0)), halves=False)
op("nextafter", case(normal(3, 4).constant(), normal(4).constant()), halves=False, gradcheck=False)
op("signbit", case(normal(3, 4).constant()), case(integers(-3, 3, 5)))
for _name in ("bitwise_left_shift", "bitwise_right_shift"):
    op(_name, case(integers(-9, 9, 5), integers(0, 5, 5)), case(integers(-9, 9, 2, 3), 2))
for _name in ("gcd", "lcm"):
    op(_name, case(integers(-9, 9, 30), integers(-9, 9, 30)), case(integers(0, 50, 2, 3), integers(0, 50, 3)))
