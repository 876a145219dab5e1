"""LeNet-5: the convolutional network for handwritten digits (LeCun, Bottou, Bengio, Haffner, 1998, figure 2)."""
from kdl import nn


class LeNet5(nn.Module):
    """Two convolution and pooling stages, then three fully connected ones: (N, 1, 32, 32) to (N, num_classes) logits.

    `variant="tanh"` is the original's shape: tanh and average pooling. (The original's pooling also had a trainable
    scale and bias per map, its C3 was sparsely connected and its output was a radial basis layer; like every
    modern rendering, this one leaves those out.) `variant="relu"` is the usual modern form: ReLU and max pooling.
    Raises ValueError for another variant.
    """

    def __init__(self, num_classes=10, in_channels=1, variant="tanh"):
        super().__init__()
        if variant not in ("tanh", "relu"):
            raise ValueError(f"LeNet5: expected variant 'tanh' or 'relu', got {variant!r}")
        activation, pool = (nn.Tanh, nn.AvgPool2d) if variant == "tanh" else (nn.ReLU, nn.MaxPool2d)
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, 6, 5), activation(), pool(2),   # 32 -> 28 -> 14
            nn.Conv2d(6, 16, 5), activation(), pool(2))            # 14 -> 10 -> 5
        self.classifier = nn.Sequential(
            nn.Flatten(), nn.Linear(16 * 5 * 5, 120), activation(),
            nn.Linear(120, 84), activation(), nn.Linear(84, num_classes))

    def forward(self, x):
        return self.classifier(self.features(x))
