from tests.optable import case, normal, op, uniform


def both_sides(*shape):
    """Values from -6 to 6, so that every piece of a bent line is met."""
    return uniform(-6, 6, *shape)


def elementwise(name, *parametrised, array=normal, **options):
    op(name, case(array(4, 5)), case(array(2, 3, 4, 5)), case(array(0, 3)), case(array()), case(array(1)),
       *parametrised, **options)


elementwise("relu")
elementwise("relu6", array=both_sides)
elementwise("leaky_relu", case(normal(2, 3), negative_slope=0.3), case(normal(7), -0.5))
elementwise("hardtanh", case(both_sides(5, 3), -2.5, 0.5), case(normal(9), min_val=0, max_val=2),
            case(normal(3), 1.0, 1.0))
# torch's float64 gradient of hardsigmoid holds 1/6 rounded to float32; test_activation.py compares it as far as it goes
elementwise("hardsigmoid", array=both_sides, torch=False)
elementwise("hardswish", array=both_sides)
op("threshold", case(normal(4, 5), 0.1, 20.0), case(normal(2, 3, 4, 5), -0.5, -1), case(normal(0), 0.0, 1.0),
   case(normal(), threshold=0.2, value=0.3), case(normal(1), 0.0, 0.0))
elementwise("softshrink", case(both_sides(5, 3), 2.0), case(normal(4), lambd=0))
elementwise("hardshrink", case(both_sides(5, 3), 2.0), case(normal(4), lambd=-1))
elementwise("elu", case(normal(2, 3), alpha=0.3), case(normal(7), -0.5))
elementwise("selu")
# torch's gradient rounds 1 / alpha to float32: powers of two
elementwise("celu", case(normal(2, 3), alpha=0.25), case(normal(7), -0.5), case(normal(4), 2))
elementwise("sigmoid")
elementwise("logsigmoid")
elementwise("softplus", case(normal(2, 3), beta=2.5), case(both_sides(5, 5), 0.5, 1.0), case(normal(4), -1, 20),
            case(both_sides(4), threshold=-1))
elementwise("softsign")
elementwise("tanh")
elementwise("tanhshrink")
elementwise("gelu", case(normal(5, 4), approximate="tanh"), case(normal(0), approximate="tanh"),
            case(both_sides(2, 3, 2, 2), approximate="none"))
elementwise("silu")
elementwise("mish")
op("prelu", case(normal(4, 5), normal(5)), case(normal(4, 5), normal(1)), case(normal(6), normal(1)),
   case(normal(6), normal()), case(normal(), normal(1)), case(normal(3, 2, 7), normal(2)),
   case(normal(2, 3, 4, 5), normal(3)), case(normal(2, 3, 4, 5), normal(1)), case(normal(2, 3, 2, 2, 3), normal(3)),
   case(normal(0, 3), normal(3)), case(normal(3, 0), normal(0)), case(normal(2, 3, 0), normal(3)),
   case(normal(600, 3), normal(3)), case(normal(1, 2, 5000), normal(2)), case(normal(1, 5000), normal(1)),
   case(normal(1, 1, 3, 3), normal(1)))
op("glu", case(normal(4, 6)), case(normal(4, 6), 0), case(normal(2, 4, 3, 5), 1), case(normal(2, 4, 6, 5), dim=-2),
   case(normal(2)), case(normal(0, 4)), case(normal(4, 0)), case(normal(2, 3, 0), 0), case(normal(1, 2, 1), 1),
   case(normal(2, 5000), 0))
