"""Datasets, batches and splits, under the names of torch.utils.data."""
from kdl.data.dataset import Dataset, Subset, TensorDataset, default_collate, random_split, train_test_split
from kdl.data.idx import read_idx, read_mnist
from kdl.data.loader import DataLoader
