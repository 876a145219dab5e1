from tests.optable import case, normal, op

SIGNAL, IMAGE, VOLUME = normal(2, 2, 5), normal(2, 2, 4, 5), normal(1, 2, 3, 4, 2)
LAST = normal(2, 3, 4, 4)
op("interpolate",
   *[case(x, size, mode=mode) for x, size in ((SIGNAL, 8), (SIGNAL, 3), (IMAGE, (7, 3)), (VOLUME, (2, 7, 3)))
     for mode in ("nearest", "nearest-exact", "area")],
   *[case(x, size, mode=mode, align_corners=corners) for corners in (False, True) for x, size, mode in (
       (SIGNAL, 8, "linear"), (SIGNAL, 3, "linear"), (IMAGE, (7, 3), "bilinear"), (IMAGE, (7, 3), "bicubic"),
       (IMAGE, (1, 9), "bicubic"), (VOLUME, (2, 7, 3), "trilinear"))],
   *[case(IMAGE, size, mode=mode, antialias=True) for mode in ("bilinear", "bicubic") for size in ((2, 9), (3, 2))],
   case(IMAGE, scale_factor=2), case(IMAGE, None, (1.7, 0.6), "bilinear"), case(SIGNAL, scale_factor=1.7),
   case(IMAGE, None, 1.6, "bicubic"), case(IMAGE, None, 1.7, "bilinear", False, True),
   case(normal(0, 2, 3, 3), 5, mode="bilinear"), case(LAST, 7, mode="bilinear"))
