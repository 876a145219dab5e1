"""Networks that learn what data look like: autoencoder, variational autoencoder, and a generator with its critic."""
import kdl
from kdl import nn
from kdl.models.mlp import MLP

__all__ = ["VAE", "Autoencoder", "Discriminator", "Generator"]


class Autoencoder(nn.Module):
    """An encoder to a few numbers and a decoder back: (N, features) to (N, features). `sizes` run from data to code."""

    def __init__(self, sizes=(64, 128, 64, 2), activation=nn.LeakyReLU):
        super().__init__()
        self.encoder, self.decoder = MLP(list(sizes), activation), MLP(list(sizes)[::-1], activation)

    def forward(self, x):
        return self.decoder(self.encoder(x))


class VAE(nn.Module):
    """An autoencoder whose code is a Gaussian (Kingma and Welling, 2014): forward gives (logits, mean, log variance).

    The code is mean + sigma eps with eps drawn anew, so that the gradient passes through mean and sigma.
    """

    def __init__(self, features=64, hidden=128, latent=8):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU())
        self.mean, self.log_var = nn.Linear(hidden, latent), nn.Linear(hidden, latent)
        self.decoder = MLP([latent, hidden, hidden, features])

    def forward(self, x):
        h = self.body(x)
        mean, log_var = self.mean(h), self.log_var(h)
        code = mean + kdl.exp(0.5 * log_var) * kdl.randn_like(mean)
        return self.decoder(code), mean, log_var


class Generator(nn.Sequential):
    """Noise (and the one-hot class, if there is one, beside it) to data in 0..1 (Goodfellow et al., 2014)."""

    def __init__(self, noise=32, features=64, hidden=128):
        super().__init__(nn.Linear(noise, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, hidden),
                         nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, features), nn.Sigmoid())


class Discriminator(nn.Sequential):
    """Data (and the one-hot class beside it) to one score: above 0 for real, below for made up."""

    def __init__(self, features=64, hidden=128, dropout=0.3):
        super().__init__(nn.Linear(features, hidden), nn.LeakyReLU(0.2), nn.Dropout(dropout), nn.Linear(hidden, hidden),
                         nn.LeakyReLU(0.2), nn.Dropout(dropout), nn.Linear(hidden, 1))
