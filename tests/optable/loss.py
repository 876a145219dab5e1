from tests.optable import case, integers, normal, op, positive, uniform


def signs(*shape):
    """Where torch wants 1 or -1; 0 and 2 are neither, and have a meaning of their own."""
    return integers(-1, 3, *shape)


def elementwise(name, x, y, *more, **options):
    """Every reduction, and the usual shapes."""
    op(name, case(x(4, 5), y(4, 5)), case(x(4, 5), y(4, 5), reduction="sum"), case(x(4, 5), y(4, 5), reduction="none"),
       case(x(2, 3, 4, 5), y(2, 3, 4, 5)), case(x(2, 3, 4, 5), y(2, 3, 4, 5), reduction="none"), case(x(), y()),
       case(x(1), y(1)), case(x(0, 3), y(0, 3)), case(x(0, 3), y(0, 3), reduction="none"), *more, **options)


def unit(*shape):
    return uniform(0.05, 0.95, *shape)


def wide(*shape):
    return uniform(-3, 3, *shape)


elementwise("mse_loss", normal, normal, case(normal(4, 5), normal(4, 5), None, None, "mean", positive(4, 5)),
            case(normal(4, 5), normal(4, 5), reduction="sum", weight=positive(4, 5)),
            case(normal(4, 5), normal(4, 5), reduction="none", weight=positive(4, 5)),
            case(normal(4), integers(0, 9, 4)))
elementwise("l1_loss", normal, normal, case(normal(4, 5), normal(4, 5), weight=positive(4, 5)),
            case(normal(4, 5), normal(4, 5), reduction="none", weight=positive(4, 5)))
elementwise("smooth_l1_loss", normal, normal, case(normal(4, 5), normal(4, 5), beta=0.3),
            case(wide(4, 5), wide(4, 5), None, None, "none", 2.0), case(normal(4, 5), normal(4, 5), beta=0))
elementwise("huber_loss", normal, normal, case(wide(4, 5), wide(4, 5), "sum", 0.3),
            case(wide(4, 5), wide(4, 5), delta=2.0, weight=positive(4, 5)),
            case(wide(4, 5), wide(4, 5), weight=positive(4, 5), reduction="none"))
elementwise("binary_cross_entropy", unit, unit, case(unit(4, 5), unit(4, 5), positive(5).constant()),
            case(unit(4, 5), unit(4, 5), positive(4, 1).constant(), reduction="sum"))
elementwise("binary_cross_entropy_with_logits", wide, unit, case(wide(4, 5), unit(4, 5), positive(5).constant()),
            case(wide(4, 5), unit(4, 5), positive(4, 5).constant(), None, None, "none", positive(5).constant()),
            case(wide(4, 5), unit(4, 5), pos_weight=positive(4, 1).constant()))
elementwise("kl_div", normal, positive, case(normal(4, 5), positive(4, 5), reduction="batchmean"),
            case(normal(4, 5), normal(4, 5), log_target=True, reduction="batchmean"),
            case(normal(4, 5), normal(5), log_target=True, reduction="none"), case(normal(4, 1), positive(5)),
            case(normal(), positive(), reduction="batchmean"))
elementwise("poisson_nll_loss", normal, positive, case(normal(4, 5), uniform(0.1, 4, 4, 5), full=True),
            case(positive(4, 5), uniform(0.1, 4, 4, 5), False, True, None, 0.1, None, "none"),
            case(positive(4, 5), positive(5), log_input=False), case(normal(4, 5), integers(0, 5, 4, 5)))
op("gaussian_nll_loss", case(normal(4, 5), normal(4, 5), positive(4, 5)),
   case(normal(4, 5), normal(4, 5), positive(4), True),
   case(normal(4, 5), normal(4, 5), positive(4, 1), reduction="sum"), case(normal(4, 5), normal(4, 5), 0.5),
   case(normal(2, 3, 4), normal(4), positive(2, 1, 4), reduction="none"),
   case(normal(4, 5), normal(4, 5), positive(4, 5), False, 0.1, "mean"),
   case(normal(0, 5), normal(0, 5), positive(0, 5)))

elementwise("hinge_embedding_loss", wide, signs, case(wide(4, 5), signs(5), 2.0, reduction="none"),
            case(wide(4, 5), signs(4, 1), margin=-0.5))
elementwise("soft_margin_loss", wide, signs, case(wide(4, 5), normal(4, 5).constant(), reduction="sum"))
op("margin_ranking_loss", *[case(normal(4, 5), normal(4, 5), signs(4, 5), **options)
                            for options in ({}, {"margin": 0.5, "reduction": "sum"}, {"reduction": "none"})],
   case(normal(4, 5), normal(1, 5), normal(4, 1), 0.3), case(normal(0), normal(0), signs(0)),
   case(normal(), normal(), signs()))
op("cosine_embedding_loss", *[case(normal(6, 5), normal(6, 5), signs(6), **options)
                              for options in ({}, {"margin": 0.2, "reduction": "sum"}, {"reduction": "none"})],
   case(normal(5), normal(5), signs(), margin=-0.5), case(normal(6, 5), normal(1, 5), signs(6)),
   case(normal(0, 5), normal(0, 5), signs(0)))
op("multi_margin_loss", *[case(normal(6, 5), integers(0, 5, 6), p, reduction=reduction, **weight) for p in (1, 2)
                          for weight in ({}, {"weight": positive(5).constant()})
                          for reduction in ("mean", "sum", "none")],
   case(normal(6, 5), integers(0, 5, 6), margin=0.3), case(normal(5), integers(0, 5), reduction="none"),
   case(normal(5), integers(0, 5, 1), 2, 0.5, reduction="none"), case(normal(3, 1), integers(0, 1, 3)))
op("multilabel_margin_loss", *[case(normal(6, 5), integers(-1, 5, 6, 5), reduction=reduction)
                               for reduction in ("mean", "sum", "none")],
   case(normal(6, 5), integers(0, 5, 6, 5)), case(normal(6, 5), integers(-1, 0, 6, 5), reduction="none"),
   case(normal(5), integers(-1, 5, 5)), case(normal(3, 1), integers(-1, 1, 3, 1)))
op("multilabel_soft_margin_loss", *[case(normal(6, 5), unit(6, 5), reduction=reduction)
                                    for reduction in ("mean", "sum", "none")],
   case(normal(6, 5), unit(6, 5), positive(5)), case(normal(5), unit(5)),
   case(normal(2, 3, 5), unit(5), reduction="none"), case(normal(0, 5), unit(0, 5)),
   case(normal(6, 5), integers(0, 2, 6, 5)))
op("cosine_similarity", case(normal(4, 5), normal(4, 5)), case(normal(2, 3, 4), normal(3, 4), -1),
   case(normal(2, 3, 4), normal(2, 1, 4), 1, 1e-3), case(normal(5), normal(5), dim=0), case(normal(0, 5), normal(0, 5)))
op("pairwise_distance", case(normal(4, 5), normal(4, 5)), case(normal(4, 5), normal(4, 5), 1.0, 0.1, True),
   case(normal(5), normal(4, 5), 3), case(normal(5), normal(5)), case(normal(0, 5), normal(0, 5)))
TRIPLET = normal(6, 5), normal(6, 5), normal(6, 5)
op("triplet_margin_loss", *[case(*TRIPLET, **options) for options in (
    {}, {"margin": 0.5, "p": 1}, {"p": 3.0, "eps": 0.1}, {"swap": True, "reduction": "none"}, {"reduction": "sum"})],
   case(normal(5), normal(5), normal(5)), case(normal(6, 5), normal(1, 5), normal(6, 5), 2.0))
op("triplet_margin_with_distance_loss", case(*TRIPLET), case(*TRIPLET, swap=True, margin=0.3, reduction="sum"),
   case(*TRIPLET, distance_function=lambda x, y: ((x - y) * (x - y)).sum(-1), reduction="none"))
