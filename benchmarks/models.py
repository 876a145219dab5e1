"""The networks of the training steps, written once for kdl and torch: `lib` is either."""
from itertools import pairwise


def mlp(lib, inputs, classes):
    """784-512-512-10 with ReLU."""
    nn = lib.nn
    return nn.Sequential(nn.Linear(inputs, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, classes))


def lenet5(lib, channels, classes):
    """LeNet-5 in its modern form, on 28 x 28 images."""
    nn = lib.nn
    return nn.Sequential(nn.Conv2d(channels, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
                         nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
                         nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, classes))


def resnet18(lib, channels, classes):
    """ResNet-18 for small images: a 3 x 3 stem, four stages of two basic blocks (He et al., 2015; CIFAR form)."""
    nn, relu = lib.nn, lib.nn.functional.relu

    class Block(nn.Module):
        def __init__(self, c, k, stride):
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(c, k, 3, stride, 1, bias=False), nn.BatchNorm2d(k)
            self.conv2, self.bn2 = nn.Conv2d(k, k, 3, 1, 1, bias=False), nn.BatchNorm2d(k)
            self.shortcut = nn.Sequential() if stride == 1 and c == k else nn.Sequential(
                nn.Conv2d(c, k, 1, stride, bias=False), nn.BatchNorm2d(k))

        def forward(self, x):
            y = self.bn2(self.conv2(relu(self.bn1(self.conv1(x)))))
            return relu(y + self.shortcut(x))

    widths = [64, 64, 128, 256, 512]
    blocks = [Block(c if i == 0 else k, k, 2 if i == 0 and c != k else 1)
              for c, k in pairwise(widths) for i in range(2)]
    return nn.Sequential(nn.Conv2d(channels, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU(), *blocks,
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, classes))


def unet(lib, channels, classes, width=16):
    """A small U-Net: two levels down and up, batchnorm, a class per pixel (Ronneberger et al., 2015)."""
    nn, cat = lib.nn, lib.cat

    def twice(c, k):
        return nn.Sequential(nn.Conv2d(c, k, 3, padding=1), nn.BatchNorm2d(k), nn.ReLU(),
                             nn.Conv2d(k, k, 3, padding=1), nn.BatchNorm2d(k), nn.ReLU())

    class UNet(nn.Module):
        def __init__(self):
            super().__init__()
            w = width
            self.down1, self.down2, self.bottom = twice(channels, w), twice(w, 2 * w), twice(2 * w, 4 * w)
            self.up2, self.up1 = nn.ConvTranspose2d(4 * w, 2 * w, 2, 2), nn.ConvTranspose2d(2 * w, w, 2, 2)
            self.merge2, self.merge1 = twice(4 * w, 2 * w), twice(2 * w, w)
            self.pool, self.head = nn.MaxPool2d(2), nn.Conv2d(w, classes, 1)

        def forward(self, x):
            a = self.down1(x)
            b = self.down2(self.pool(a))
            c = self.bottom(self.pool(b))
            b = self.merge2(cat([b, self.up2(c)], 1))
            return self.head(self.merge1(cat([a, self.up1(b)], 1)))

    return UNet()
