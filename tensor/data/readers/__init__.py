"""Common datasets, read from files on the local disk: nothing is fetched, and nothing in a file is run.

A missing file says where to put it and where it is published; a damaged one is a ValueError that names it.
"""

from tensor.data.readers.cifar import CIFAR10, CIFAR100
from tensor.data.readers.folder import ImageFolder, read_image
from tensor.data.readers.idx import MNIST, FashionMNIST, read_idx
from tensor.data.readers.table import CSV
from tensor.data.readers.text import TextWindows, Vocabulary

__all__ = [
    "CIFAR10", "CIFAR100", "CSV", "MNIST", "FashionMNIST", "ImageFolder", "TextWindows", "Vocabulary", "read_idx", "read_image",
]  # fmt: skip
