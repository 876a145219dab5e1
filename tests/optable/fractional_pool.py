from tests.optable import case, distinct, op, uniform


def draws(*shape):
    """The random numbers of planes, as an input."""
    return uniform(0, 1, *shape).constant()


op("fractional_max_pool2d",
   case(distinct(2, 3, 9, 8), 2, (5, 4), _random_samples=draws(2, 3, 2)),
   case(distinct(3, 9, 8), (3, 2), 4, return_indices=True, _random_samples=draws(1, 3, 2)),
   case(distinct(2, 2, 10, 7), 2, output_ratio=(0.5, 0.7), _random_samples=draws(2, 2, 2)),
   case(distinct(1, 2, 4, 4), 4, 1, _random_samples=draws(1, 2, 2)),
   case(distinct(2, 1, 6, 6), 3, (1, 4), _random_samples=draws(2, 1, 2)))
op("fractional_max_pool3d",
   case(distinct(1, 2, 5, 6, 7), 2, (3, 4, 2), _random_samples=draws(1, 2, 3)),
   case(distinct(2, 5, 5, 4), (2, 3, 1), 2, None, True, _random_samples=draws(1, 2, 3)),
   case(distinct(1, 2, 6, 5, 4), 1, output_ratio=(0.5, 0.6, 0.8), _random_samples=draws(1, 2, 3)))
op("fractional_max_pool2d_with_indices", case(distinct(2, 3, 9, 8), 2, (5, 4), _random_samples=draws(2, 3, 2)))
op("fractional_max_pool3d_with_indices", case(distinct(1, 2, 5, 6, 7), 2, 3, _random_samples=draws(1, 2, 3)))
