from tests.optable import case, normal, op, uniform

IMAGE, VOLUME = normal(2, 2, 4, 5), normal(1, 2, 3, 4, 2)
GRID, SPACE = uniform(-1.6, 1.6, 2, 3, 2, 2), uniform(-1.6, 1.6, 1, 2, 3, 2, 3)
op("grid_sample",
   *[case(IMAGE, GRID.constant() if mode == "nearest" else GRID, mode, padding, corners)
     for mode in ("bilinear", "bicubic", "nearest") for padding in ("zeros", "border", "reflection")
     for corners in (False, True)],
   *[case(VOLUME, SPACE, mode, padding, corners) for mode, padding, corners in (
       ("bilinear", "zeros", False), ("bilinear", "border", True), ("bilinear", "reflection", False))],
   case(VOLUME, SPACE.constant(), "nearest", "zeros", True), halves=False)
op("affine_grid", case(normal(2, 2, 3), (2, 1, 3, 4), align_corners=False), case(normal(2, 2, 3), [2, 3, 1, 4], True),
   case(normal(1, 3, 4), (1, 2, 2, 3, 2), False), case(normal(1, 3, 4), (1, 2, 2, 1, 2), True), halves=False)
