"""A small convolutional network reads handwritten digits, 8 x 8 pixels each: `python examples/05_digits.py [EPOCHS]`.

Needs scikit-learn for the pictures, which lie inside it: `pip install scikit-learn`.
"""

import sys
import time

from sklearn.datasets import load_digits

import tensor as T
from tensor import nn, optim
from tensor.data import DataLoader, TensorDataset, random_split


def network():
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Dropout(0.5),
        nn.Linear(64 * 4 * 4, 64), nn.ReLU(),
        nn.Linear(64, 10),
    )  # fmt: skip


def accuracy(net, dataset):
    net.eval()
    with T.no_grad():
        right = sum((net(x).argmax(1) == y).sum().item() for x, y in DataLoader(dataset, batch_size=256))
    net.train()
    return right / len(dataset)


if __name__ == "__main__":
    epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    T.manual_seed(0)
    digits = load_digits()
    pictures = T.tensor(digits.images / 16, dtype=T.float32).unsqueeze(1)
    train, test = random_split(TensorDataset(pictures, T.tensor(digits.target)), [0.8, 0.2])

    net = network()
    optimizer = optim.AdamW(net.parameters(), lr=2e-3)
    schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs)
    begun = time.perf_counter()
    for epoch in range(epochs):
        for x, y in DataLoader(train, batch_size=64, shuffle=True):
            loss = nn.functional.cross_entropy(net(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
        print(f"epoch {epoch + 1:2}  loss {loss.item():.4f}  test accuracy {accuracy(net, test):.1%}")
    print(f"{sum(p.numel() for p in net.parameters()):,} weights, {time.perf_counter() - begun:.1f} s")
