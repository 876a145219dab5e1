"""The vision transformer (Dosovitskiy et al., 2021): an image as a sentence of patches."""
import kdl
from kdl import nn

__all__ = ["ViT"]


class Block(nn.Module):
    """x + attention(norm(x)), then x + network(norm(x)); `weights`: the last attention's, over the heads' mean."""

    def __init__(self, width, heads, hidden):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.network = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, x):
        y = self.norm1(x)
        y, self.weights = self.attention(y, y, y)
        x = x + y
        return x + self.network(self.norm2(x))


class ViT(nn.Module):
    """(N, in_channels, image_size, image_size) to (N, num_classes): patches, a class token before them, and blocks."""

    def __init__(self, image_size=8, patch_size=2, in_channels=1, num_classes=10, width=64, layers=3, heads=4,
                 hidden=128):
        super().__init__()
        places = (image_size // patch_size) ** 2 + 1
        self.patch = nn.Conv2d(in_channels, width, patch_size, patch_size)
        self.token, self.place = nn.Parameter(kdl.zeros(1, 1, width)), nn.Parameter(0.02 * kdl.randn(1, places, width))
        self.blocks = nn.ModuleList([Block(width, heads, hidden) for _ in range(layers)])
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, num_classes)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = kdl.cat([self.token.expand(len(x), -1, -1), x], 1) + self.place
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])
