"""Residual networks (He et al., 2016): blocks y = relu(F(x) + x), whose shortcut carries the gradient past F.

Modules are named as in torchvision, so that its weights load by name.
"""
from kdl import nn
from kdl.nn import functional as F

__all__ = ["BasicBlock", "Bottleneck", "ResNet", "resnet18", "resnet20", "resnet34", "resnet50"]


def conv3x3(channels_in, channels_out, stride=1):
    return nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions; where the shape changes the shortcut is a 1x1 convolution. Without `shortcut`, plain."""
    expansion = 1

    def __init__(self, inplanes, planes, stride=1, shortcut=True):
        super().__init__()
        self.conv1, self.bn1 = conv3x3(inplanes, planes, stride), nn.BatchNorm2d(planes)
        self.conv2, self.bn2 = conv3x3(planes, planes), nn.BatchNorm2d(planes)
        self.shortcut = shortcut
        self.downsample = projection(inplanes, planes, stride) if shortcut else None

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.shortcut:
            y = y + (x if self.downsample is None else self.downsample(x))
        return F.relu(y)


class Bottleneck(nn.Module):
    """1x1 down, 3x3, 1x1 up to four times the planes; the stride is in the 3x3, as in torchvision."""
    expansion = 4

    def __init__(self, inplanes, planes, stride=1):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inplanes, planes, 1, bias=False), nn.BatchNorm2d(planes)
        self.conv2, self.bn2 = conv3x3(planes, planes, stride), nn.BatchNorm2d(planes)
        self.conv3, self.bn3 = nn.Conv2d(planes, 4 * planes, 1, bias=False), nn.BatchNorm2d(4 * planes)
        self.downsample = projection(inplanes, 4 * planes, stride)

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn3(self.conv3(F.relu(self.bn2(self.conv2(y)))))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


def projection(inplanes, planes, stride):
    """The shortcut's 1x1 convolution, or None where the identity fits."""
    if stride == 1 and inplanes == planes:
        return None
    return nn.Sequential(nn.Conv2d(inplanes, planes, 1, stride, bias=False), nn.BatchNorm2d(planes))


class ResNet(nn.Module):
    """Stages of blocks, each after the first at half the size, then the mean over the places and one linear layer.

    `layers` says how many blocks a stage has, `widths` their planes. The stem of `small_images` is one 3x3 convolution,
    for images of about 32x32, instead of 7x7 with stride 2 and a pooling. Shapes: (N, in_channels, H, W) to
    (N, num_classes).
    """

    def __init__(self, block, layers, num_classes=1000, in_channels=3, widths=(64, 128, 256, 512), small_images=False,
                 **options):
        super().__init__()
        self.small_images = small_images
        self.conv1 = conv3x3(in_channels, widths[0]) if small_images else nn.Conv2d(in_channels, widths[0], 7, 2, 3,
                                                                                    bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        planes_in = widths[0]
        for i, (count, planes) in enumerate(zip(layers, widths)):
            blocks = []
            for j in range(count):
                blocks.append(block(planes_in, planes, 2 if i and not j else 1, **options))
                planes_in = planes * block.expansion
            setattr(self, f"layer{i + 1}", nn.Sequential(*blocks))
        self.stages = len(layers)
        self.fc = nn.Linear(planes_in, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        if not self.small_images:
            x = F.max_pool2d(x, 3, 2, 1)
        for i in range(self.stages):
            x = getattr(self, f"layer{i + 1}")(x)
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


def resnet18(**options):
    """ResNet-18: four stages of two basic blocks."""
    return ResNet(BasicBlock, (2, 2, 2, 2), **options)


def resnet34(**options):
    """ResNet-34: basic blocks, 3, 4, 6 and 3 a stage."""
    return ResNet(BasicBlock, (3, 4, 6, 3), **options)


def resnet50(**options):
    """ResNet-50: bottlenecks, 3, 4, 6 and 3 a stage."""
    return ResNet(Bottleneck, (3, 4, 6, 3), **options)


def resnet20(num_classes=10, widths=(16, 32, 64), **options):
    """ResNet-20 for small images: three stages of three basic blocks (the paper's section 4.2)."""
    return ResNet(BasicBlock, (3, 3, 3), num_classes=num_classes, widths=widths, small_images=True, **options)
