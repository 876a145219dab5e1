"""Named networks: small readable classes with the usual constructor names, whose weights load by name."""
from kdl.models.generative import VAE, Autoencoder, Discriminator, Generator
from kdl.models.graph import GAT, GCN, GATLayer, GCNLayer, normalized_adjacency
from kdl.models.lenet5 import LeNet5
from kdl.models.mlp import MLP
from kdl.models.resnet import BasicBlock, Bottleneck, ResNet, resnet18, resnet20, resnet34, resnet50
from kdl.models.sequence import GPT, CharLSTM
from kdl.models.unet import UNet
from kdl.models.vit import ViT

__all__ = ["GAT", "GCN", "GPT", "MLP", "VAE", "Autoencoder", "BasicBlock", "Bottleneck", "CharLSTM", "Discriminator",
           "GATLayer", "GCNLayer", "Generator", "LeNet5", "ResNet", "UNet", "ViT", "normalized_adjacency", "resnet18",
           "resnet20", "resnet34", "resnet50"]
