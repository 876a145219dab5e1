"""U-Net (Ronneberger, Fischer and Brox, 2015): one score per pixel, from what is there and where it is.

The way down halves the image and doubles the channels at each level, the way up does the reverse; each level of the way
up also gets the features of the same size from the way down, which know where the edges are.
"""
import kdl
from kdl import nn
from kdl.nn import functional as F

__all__ = ["UNet"]


def double_conv(channels_in, channels_out):
    """Two padded 3x3 convolutions, each normalised and rectified: the size stays."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, padding=1), nn.BatchNorm2d(channels_out), nn.ReLU(),
        nn.Conv2d(channels_out, channels_out, 3, padding=1), nn.BatchNorm2d(channels_out), nn.ReLU())


class UNet(nn.Module):
    """(N, in_channels, H, W) to (N, out_channels, H, W) scores; H and W are multiples of 2^depth.

    `width` are the channels of the first level, `depth` how often the image is halved. Without `skips` nothing passes
    from the way down to the way up but the smallest map. The convolutions are padded, so that the size is kept.
    """

    def __init__(self, in_channels=1, out_channels=1, width=64, depth=4, skips=True):
        super().__init__()
        self.skips = skips
        widths = [width * 2 ** i for i in range(depth + 1)]
        self.down = nn.ModuleList([double_conv(i, o) for i, o in zip([in_channels, *widths[:-2]], widths[:-1])])
        self.middle = double_conv(widths[-2], widths[-1])
        self.expand = nn.ModuleList([nn.ConvTranspose2d(2 * w, w, 2, 2) for w in widths[-2::-1]])
        self.up = nn.ModuleList([double_conv(2 * w if skips else w, w) for w in widths[-2::-1]])
        self.head = nn.Conv2d(width, out_channels, 1)

    def forward(self, x):
        kept = []
        for level in self.down:
            kept.append(level(x))
            x = F.max_pool2d(kept[-1], 2)
        x = self.middle(x)
        for expand, level in zip(self.expand, self.up):
            x, across = expand(x), kept.pop()
            x = level(kdl.cat([across, x], 1) if self.skips else x)
        return self.head(x)
