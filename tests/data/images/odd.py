"""Writes JPEG and PNG files with the oddities of large data sets, and Pillow's pixels of each.

Made with Pillow 13.0.0:

    pip install pillow
    python odd.py

odd/X is a file, odd/X.png the image that Pillow decodes from it.
"""

import io
import pathlib
import struct
import zlib

from PIL import Image

HERE = pathlib.Path(__file__).parent
ODD = HERE / "odd"
END = b"\xff\xd9"


def picture(width, height):
    """Edges, ramps and noise, so that chroma upsampling and rounding matter."""
    image = Image.new("RGB", (width, height))
    for y in range(height):
        for x in range(width):
            noise = (x * 7919 + y * 104729 + x * y * 31) % 61
            edge = 200 if (x // 11 + y // 7) % 2 else 20
            image.putpixel((x, y), ((x * 255 // width + noise) % 256, (edge + noise) % 256, y * 255 // height))
    return image


def jpeg(image, **options):
    target = io.BytesIO()
    image.save(target, "JPEG", **options)
    return target.getvalue()


def segments(data):
    """(offset, marker, length with the marker) of the segments before the first scan, and of its header."""
    at = 2
    while True:
        marker, length = data[at + 1], struct.unpack(">H", data[at + 2:at + 4])[0] + 2
        yield at, marker, length
        if marker == 0xda:
            return
        at += length


def changed(data, marker, change):
    """Replaces the content of every segment of that marker."""
    out, last = b"", 0
    for at, found, length in segments(data):
        if found == marker:
            content = change(bytearray(data[at + 4:at + length]))
            out += data[last:at]
            out += b"" if content is None else bytes([0xff, found]) + struct.pack(">H", len(content) + 2) + content
            last = at + length
    return out + data[last:]


def sampled(factors):
    """Sets the sampling factors of the first component: the same coded blocks, in other places."""
    def change(frame):
        frame[7] = factors
        return frame
    return change


def equal_ids(first, stride):
    """Sets the ids of the three components to 1."""
    def change(content):
        content[first:first + 3 * stride:stride] = b"\1\1\1"
        return content
    return change


def extended(data):
    """The start-of-frame marker of the extended sequential process."""
    frame = [at for at, marker, _ in segments(data) if marker == 0xc0][0]
    return data[:frame] + b"\xff\xc1" + data[frame + 2:]


def wide_tables(content):
    """Quantisation tables of 16 bits."""
    out = b""
    for at in range(0, len(content), 65):
        out += bytes([0x10 | content[at]]) + b"".join(struct.pack(">H", value) for value in content[at + 1:at + 65])
    return out


def adobe(transform):
    def change(content):
        content[11] = transform
        return content
    return change


def filled(data):
    """Fill bytes before every marker but the first."""
    out, last = data[:2], 2
    for at, _, _ in segments(data):
        out += data[last:at] + b"\xff\xff\xff"
        last = at
    return out + data[last:-2] + b"\xff\xff" + END


def huffman_tables(data):
    """(class and number of the table) to {(bits, code): symbol}."""
    tables = {}
    for at, marker, length in segments(data):
        content = data[at + 4:at + length] if marker == 0xc4 else b""
        while content:
            counts, symbols, code, table = content[1:17], iter(content[17:]), 0, {}
            for bits, count in enumerate(counts, 1):
                for _ in range(count):
                    table[bits, code] = next(symbols)
                    code += 1
                code <<= 1
            tables[content[0]] = table
            content = content[17 + sum(counts):]
    return tables


def scan_per_component(data):
    """A scan for each component of a 4:2:0 JPEG of 16 x 16 pixels, whose blocks are already in that order."""
    tables = huffman_tables(data)
    start, header = [(at, at + length) for at, marker, length in segments(data) if marker == 0xda][0]
    bits = "".join(f"{byte:08b}" for byte in data[header:-2].replace(b"\xff\0", b"\xff"))
    place = 0

    def symbol(table):
        nonlocal place
        code = 0
        for length in range(1, 17):
            code = code << 1 | int(bits[place])
            place += 1
            if (length, code) in table:
                return table[length, code]
        raise ValueError("no such code")

    out = data[:start]
    for component, (blocks, number) in enumerate([(4, 0), (1, 1), (1, 1)], 1):
        first = place
        for _ in range(blocks):
            length = symbol(tables[number])
            place += length
            coefficient = 1
            while coefficient < 64:
                run = symbol(tables[0x10 | number])
                place += run & 15
                coefficient = 64 if run == 0 else coefficient + (run >> 4) + 1
        coded = bits[first:place]
        coded += "1" * (-len(coded) % 8)
        packed = bytes(int(coded[at:at + 8], 2) for at in range(0, len(coded), 8))
        out += bytes([0xff, 0xda, 0, 8, 1, component, number * 0x11, 0, 63, 0]) + packed.replace(b"\xff", b"\xff\0")
    return out + END


def chunk(name, content):
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def animated(frames):
    target = io.BytesIO()
    frames[0].save(target, "PNG", save_all=True, append_images=frames[1:], default_image=True)
    return target.getvalue()


def png(image, **options):
    target = io.BytesIO()
    image.save(target, "PNG", **options)
    return target.getvalue()


def interlaced(image):
    """Adam7, which Pillow does not write."""
    width, height = image.size
    pixels, rows = image.load(), b""
    for x0, y0, dx, dy in [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]:
        for y in range(y0, height, dy):
            row = b"".join(bytes(pixels[x, y]) for x in range(x0, width, dx))
            rows += b"\0" + row if row else b""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 1)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


def main():
    small, square = picture(45, 34), picture(64, 64)
    plain = jpeg(small, quality=80, subsampling=2)
    cmyk = jpeg(small.convert("CMYK"), quality=85)
    transparent = small.quantize(16)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    files = {
        "low_quality_420.jpg": jpeg(small, quality=5, subsampling=2),
        "high_quality_420.jpg": jpeg(small, quality=97, subsampling=2),
        "odd_sides_422.jpg": jpeg(small, quality=80, subsampling=1),
        "sampled_440.jpg": changed(jpeg(square, quality=80, subsampling=1), 0xc0, sampled(0x12)),
        "sampled_411.jpg": changed(jpeg(square, quality=80, subsampling=2), 0xc0, sampled(0x41)),
        "sampled_grey_22.jpg": changed(jpeg(small.convert("L"), quality=80), 0xc0, sampled(0x22)),
        "progressive_420.jpg": jpeg(small, quality=80, subsampling=2, progressive=True),
        "restart.jpg": jpeg(small, quality=80, subsampling=2, restart_marker_blocks=2),
        "scan_per_component_420.jpg": scan_per_component(jpeg(picture(16, 16), quality=80, subsampling=2)),
        "rgb_components.jpg": jpeg(small, quality=80, keep_rgb=True),
        "tables_of_16_bits.jpg": changed(plain, 0xdb, wide_tables),
        "equal_component_ids.jpg": changed(changed(plain, 0xc0, equal_ids(6, 3)), 0xda, equal_ids(1, 2)),
        "extended_sequential.jpg": extended(plain),
        "without_huffman_tables.jpg": changed(plain, 0xc4, lambda content: None),
        "two_images.jpg": plain + jpeg(square.convert("L"), quality=30),
        "two_images_progressive.jpg": jpeg(small, quality=80, progressive=True) + plain,
        "fill_bytes.jpg": filled(plain),
        "junk_before_end.jpg": plain[:-2] + b"\0\x11junk\0" + END,
        "junk_after_end.jpg": plain + b"\0junk",
        "junk_between_segments.jpg": plain[:2] + plain[2:20] + b"junk" + plain[20:],
        "cmyk_without_adobe.jpg": changed(cmyk, 0xee, lambda content: None),
        "ycck.jpg": changed(cmyk, 0xee, adobe(2)),
        "exif_turned.jpg": jpeg(small, quality=80, exif=exif),
        "animated.png": animated([small.resize((20, 15)), square.resize((20, 15)), small.resize((20, 15))]),
        "interlaced.png": interlaced(small),
        "palette_transparency.png": png(transparent, transparency=3),
        "two_colours.png": png(small.convert("1")),
    }
    ODD.mkdir(exist_ok=True)
    for name, data in files.items():
        (ODD / name).write_bytes(data)
        Image.open(io.BytesIO(data)).convert("RGB").save(ODD / (name + ".png"))


if __name__ == "__main__":
    main()
