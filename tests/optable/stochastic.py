from tests.optable import case, normal, op

# With equal bounds nothing is random; what is random stands in tests/test_activation.py and tests/test_softmax.py.
op("rrelu", case(normal(3, 4)), case(normal(3, 4), 0.1, 0.4), case(normal(3, 4), 0.25, 0.25, True), case(normal(0, 3)))
