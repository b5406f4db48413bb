"""Prints the rate of torchvision's DataLoader: images per second of processor time.

Usage: torchvision_loader.py FOLDER BATCH_SIZE. The higher of the rates of 0 and 1 workers.
"""

import os
import sys

import torch
import torchvision
from torchvision import transforms

torch.set_num_threads(1)
transform = transforms.Compose(
    [
        transforms.RandomResizedCrop(224, interpolation=transforms.InterpolationMode.BICUBIC),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ]
)
dataset = torchvision.datasets.ImageFolder(sys.argv[1], transform)


def seconds():
    """Processor time in seconds of this process and of ended workers."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def rate(workers):
    loader = torch.utils.data.DataLoader(
        dataset, batch_size=int(sys.argv[2]), shuffle=True, drop_last=True, num_workers=workers
    )
    for images, _ in loader:  # warm-up: files into the page cache
        pass
    started = seconds()
    seen = sum(len(images) for _ in range(2) for images, _ in loader)
    return seen / (seconds() - started)


print(max(rate(0), rate(1)))
