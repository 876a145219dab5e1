from tests.optable import case, normal, op, positive

# The running statistics, arguments 1 and 2, are updated in training.
mean, var = normal(3).constant(), positive(3).constant()

op("batch_norm",
   case(normal(5, 3), None, None, training=True),
   case(normal(5, 3), None, None, normal(3), normal(3), training=True),
   case(normal(4, 3, 5), mean, var, normal(3), training=True, momentum=0.3, eps=1e-3),
   case(normal(3, 3, 4, 2), mean, var, normal(3), normal(3), True, 1.0),
   case(normal(2, 3, 2, 2, 3), mean, var, None, normal(3), training=True, momentum=0.0),
   case(normal(2, 3, 1, 1), None, None, normal(3), normal(3), training=True),
   case(normal(300, 3), None, None, normal(3), normal(3), training=True),
   case(normal(5, 3), mean, var),
   case(normal(5, 3), mean, var, normal(3), normal(3)),
   case(normal(2, 3, 4, 5), mean, var, normal(3), normal(3), eps=0.1),
   case(normal(1, 3, 1, 1), mean, var, normal(3)),
   case(normal(0, 3, 2), mean, var, normal(3), normal(3)),
   updates=(1, 2))
