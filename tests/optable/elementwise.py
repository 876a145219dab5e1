from tests.optable import boolean, case, distinct, integers, normal, op, positive, uniform

_PAIRS = (case(normal(3, 4), normal(3, 4)), case(normal(2, 3, 4, 5), normal(3, 1, 5)), case(normal(4, 1), normal(5)),
          case(normal(), normal(3)), case(normal(0, 3), normal(3)), case(normal(1), normal(1, 1)),
          case(normal(2, 3), -1.5))
_APART = (case(distinct(3, 4), normal(3, 4)), case(distinct(2, 3, 4), normal(3, 1)), case(normal(0, 3), normal(3)))

op("add", *_PAIRS, case(normal(3, 4), normal(4), alpha=-0.5), case(normal(3), 2), case(normal(3), integers(-3, 3, 3)),
   case(integers(-9, 9, 3), integers(-9, 9, 3), alpha=2), case(boolean(3), boolean(3)))
op("sub", *_PAIRS, case(normal(3, 4), normal(4), alpha=2))
op("rsub", case(normal(3, 4), normal(4), alpha=2), case(normal(3), 1))
op("mul", *_PAIRS, case(normal(3), integers(-3, 3, 2, 3)), case(integers(-9, 9, 3), 3), case(normal(3), boolean(3)))
op("div", case(normal(3, 4), positive(3, 4)), case(normal(2, 3, 4, 5), positive(3, 1, 5)), case(normal(0), positive(1)),
   case(normal(3), 4), case(normal(3), integers(1, 9, 3)),
   case(uniform(5.1, 5.9, 3, 4), positive(4), rounding_mode=None))
op("div", case(normal(4, 5), positive(5), rounding_mode="floor"), case(normal(4, 5), -0.7, rounding_mode="trunc"),
   case(integers(-9, 9, 5, 5), integers(1, 5, 5), rounding_mode="floor"),
   case(integers(-9, 9, 5, 5), integers(1, 5, 5), rounding_mode="trunc"), gradcheck=False, halves=False)
op("floor_divide", case(normal(4, 5).constant(), positive(5).constant()), case(integers(-9, 9, 5), integers(1, 9, 5)),
   halves=False)
op("remainder", case(uniform(1.7, 2.0, 4, 5), uniform(0.7, 0.8, 5)),
   case(uniform(1.7, 2.0, 4), uniform(-0.8, -0.7, 3, 1)), case(uniform(-2.0, -1.7, 4), 0.8),
   case(integers(-9, 9, 5), integers(1, 9, 5)), halves=False)
op("fmod", case(uniform(1.7, 2.0, 4, 5), uniform(0.7, 0.8, 5)),
   case(uniform(1.7, 2.0, 4), uniform(-0.8, -0.7, 3, 1)), case(uniform(-2.0, -1.7, 4), 0.8),
   case(integers(-9, 9, 5), integers(1, 9, 5)), halves=False)
op("pow", case(positive(3, 4), normal(3, 4)), case(positive(2, 3, 1), normal(4)), case(normal(3, 4), 2),
   case(normal(3), 3), case(positive(3), 0.5), case(positive(3), -1), case(normal(3), 0), case(normal(3), 1.0),
   case(2.5, normal(3)), case(normal(3), integers(0, 4, 3)), case(integers(-3, 3, 4), 3),
   case(integers(-3, 3, 4), integers(0, 4, 4)))
op("float_power", case(positive(3), 2), case(positive(3), normal(3)), case(2, positive(3)), halves=False)
op("square", case(normal(3, 4)), case(integers(-3, 3, 4)))
op("neg", case(normal(3, 4)), case(normal(2, 3, 4, 5)), case(integers(-3, 3, 4)))
op("abs", case(distinct(3, 5)), case(normal(0)), case(integers(-3, 3, 4)))
op("copysign", case(distinct(3, 5), normal(5)), case(distinct(3), -1.0), case(integers(-3, 3, 4), normal(4).constant()))
op("reciprocal", case(positive(3, 4)))

op("atan2", *_PAIRS[:-1])
op("hypot", *_PAIRS[:-1])
op("logaddexp", *_PAIRS[:-1])
op("xlogy", case(normal(3, 4), positive(3, 4)), case(normal(3, 1), positive(4)), case(2.0, positive(3)),
   case(normal(3), 2.0))
op("heaviside", case(normal(3, 4).constant(), normal(4).constant()))
op("lerp", case(normal(3, 4), normal(3, 4), 0.3), case(normal(3, 4), normal(4), 0.7),
   case(normal(3, 1), normal(4), uniform(-1, 2, 2, 1, 1)), case(normal(0), normal(0), 0.5))
op("addcmul", case(normal(3, 4), normal(3, 4), normal(3, 4)), case(normal(4), normal(3, 1), normal(1), value=-0.5),
   case(integers(0, 3, 4), integers(0, 3, 4), integers(0, 3, 4), value=2))
op("addcdiv", case(normal(3, 4), normal(3, 4), positive(3, 4)), case(normal(4), normal(3, 1), positive(1), value=-0.5))
op("maximum", *_APART, case(integers(-3, 3, 4), integers(-3, 3, 4)), case(boolean(5), boolean(5)))
op("minimum", *_APART, case(integers(-3, 3, 4), integers(-3, 3, 4)))
op("fmax", *_APART)
op("fmin", *_APART)
op("clamp", case(distinct(5, 5), -0.9, 0.9), case(distinct(5, 5), min=-0.9), case(distinct(5, 5), max=1.1),
   case(distinct(5, 5), uniform(-1.7, -0.3, 5), uniform(0.3, 1.7, 5, 1)), case(distinct(5), min=normal(5)),
   case(distinct(5), max=normal(5)), case(distinct(5), 1.1, -1.1), case(integers(-9, 9, 5), -3, 3),
   case(integers(-9, 9, 5), 0.5))
op("clamp_min", case(distinct(5, 5), 0.1), case(distinct(5), normal(5)))
op("clamp_max", case(distinct(5, 5), 0.1), case(distinct(5), normal(5)))

for _name in ("exp", "exp2", "expm1", "sin", "cos", "atan", "sinh", "cosh", "asinh", "erf", "erfc", "deg2rad",
              "rad2deg"):
    op(_name, case(normal(3, 5)), case(normal(2, 3, 4, 5)), case(normal(0, 3)), case(normal()))
for _name in ("log", "log1p", "log2", "log10", "sqrt", "rsqrt"):
    op(_name, case(positive(3, 5)), case(positive(2, 3, 4, 5)), case(positive(0, 3)), case(positive()))
for _name in ("tan", "asin", "acos", "atanh"):
    op(_name, case(uniform(-0.9, 0.9, 3, 5)), case(uniform(-0.9, 0.9, 1)))
op("acosh", case(uniform(1.2, 3, 3, 5)))
for _name in ("floor", "ceil", "trunc", "frac", "sign", "round"):
    op(_name, case(uniform(0.1, 0.4, 3, 5)), case(normal(2, 3, 4, 5)), case(normal(0)), gradcheck=_name == "frac")
op("round", case(normal(3, 4), decimals=2), case(normal(3, 4), decimals=-1), gradcheck=False, halves=False)
for _name in ("floor", "ceil", "trunc", "sign", "round"):
    op(_name, case(integers(-3, 3, 4)))
op("nan_to_num", case(normal(3, 4)), case(normal(3), 1.0, 2.0, 3.0), case(integers(0, 3, 3)))

for _name in ("eq", "ne", "lt", "le", "gt", "ge"):
    op(_name, case(integers(0, 3, 4, 5), integers(0, 3, 5)), case(normal(3, 4).constant(), normal(4).constant()),
       case(normal(3).constant(), 0), case(integers(0, 3, 3), 1.5), case(normal(0).constant(), 0.0))
for _name in ("logical_and", "logical_or", "logical_xor"):
    op(_name, case(boolean(3, 4), boolean(4)), case(integers(0, 2, 4), normal(3, 1).constant()))
for _name in ("bitwise_and", "bitwise_or", "bitwise_xor"):
    op(_name, case(boolean(3, 4), boolean(4)), case(integers(-9, 9, 4), integers(-9, 9, 3, 1)),
       case(integers(0, 9, 4), 5))
op("bitwise_not", case(boolean(3)), case(integers(-3, 3, 4)))
op("logical_not", case(boolean(3)), case(integers(-1, 2, 4)), case(normal(3).constant()))
for _name in ("isnan", "isinf", "isfinite", "isposinf", "isneginf"):
    op(_name, case(normal(3).constant()), case(integers(0, 3, 3)))
op("isclose", case(normal(3, 4).constant(), normal(4).constant(), rtol=0.5, atol=0.1),
   case(integers(0, 3, 5), integers(0, 3, 5), atol=1))
op("clone", case(normal(3, 4)), case(normal(2, 3, 4, 5)), case(normal(0)), case(integers(0, 3, 3)))
