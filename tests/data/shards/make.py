"""Writes the archives in this folder with webdataset 1.0.2 and Python's tarfile:

    pip install --no-deps webdataset==1.0.2 braceexpand && pip install numpy pyyaml
    python make.py
"""
import io
import tarfile
from pathlib import Path

import webdataset

HERE = Path(__file__).parent
IMAGES = ["colour.jpg", "grey.png", "progressive.jpg", "palette.png"]
LONG = "a-folder-whose-name-is-longer-than-a-tar-header-has-room-for/" * 3


def content(name):
    return (HERE.parent / "images" / name).read_bytes()


def webdataset_shards():
    """As a script for ImageNet writes them: image, class and further members of a sample."""
    pattern = str(HERE / "webdataset-%06d.tar")
    with webdataset.ShardWriter(pattern, maxcount=3, verbose=0, mtime=1e9 + 0.5) as writer:
        for number, name in enumerate(IMAGES + IMAGES[:1]):
            key = "%08d" % number
            if number % 2:
                key = "n0144/" + key
            extension = name.rsplit(".")[-1]
            sample = {"__key__": key, "cls": (3 * number) % 5, extension: content(name)}
            writer.write({**sample, "json": {"name": name}})


def tarfile_shard(file, tar_format):
    """Long names, letters beyond ASCII, folders, capital extensions, hidden files of macOS."""
    with tarfile.open(HERE / file, "w", format=tar_format) as archive:
        folder = tarfile.TarInfo("images")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for number, name in enumerate(IMAGES):
            key = LONG + "äffchen-%d" % number if number % 2 else "./images/%d" % number
            extension = name.rsplit(".")[-1]
            members = [("JPEG" if extension == "jpg" else extension, content(name))]
            members += [("cls", b"%d\n" % number), ("seg.png", b"another image of the sample")]
            for ending, data in members:
                member = tarfile.TarInfo(key + "." + ending)
                member.size, member.mtime = len(data), 1e9 + 0.5
                archive.addfile(member, io.BytesIO(data))
            hidden = tarfile.TarInfo("./images/._%d.jpg" % number)
            archive.addfile(hidden)


webdataset_shards()
tarfile_shard("pax.tar", tarfile.PAX_FORMAT)
tarfile_shard("gnu.tar", tarfile.GNU_FORMAT)
