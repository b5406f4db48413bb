"""Images per second of torchvision's DataLoader: torchvision_loader.py FOLDER BATCH.

The better of no worker and one worker; the process is bound to one core by the benchmark.
"""

import sys
import time

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


def rate(workers):
    loader = torch.utils.data.DataLoader(
        dataset, batch_size=int(sys.argv[2]), shuffle=True, drop_last=True, num_workers=workers
    )
    # The first epoch reads the files into the system's cache and starts the worker's imports.
    for _ in range(2):
        started = time.perf_counter()
        seen = sum(len(images) for images, _ in loader)
    return seen / (time.perf_counter() - started)


print(max(rate(0), rate(1)))
