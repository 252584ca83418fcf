"""Turns a SentencePiece unigram model (a protobuf message) into a `tokenizers` tokenizer.

Only three fields of the message count here: the pieces with their scores (1), and within the normaliser (3) its compiled
character map (2). The wire format is read by hand, since the message's schema is not among the dependencies.
"""

import struct

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

UNKNOWN, BEGIN, END = 0, 1, 2
# SentencePiece's mark for a space.
SPACE_MARK = "\u2581"


def tokenizer(message):
    """The tokenizer of a serialised ModelProto: normalise, mark the spaces, best pieces, <s> … </s>."""
    pieces, character_map = [], b""
    for number, value in _fields(message):
        if number == 1:
            piece = dict(_fields(value))
            pieces.append((piece[1].decode(), piece.get(2, 0.0)))
        elif number == 3:
            character_map = dict(_fields(value))[2]
    begin, end = pieces[BEGIN][0], pieces[END][0]
    result = Tokenizer(models.Unigram(pieces, unk_id=UNKNOWN, byte_fallback=False))
    result.normalizer = normalizers.Sequence(
        [normalizers.Precompiled(character_map), normalizers.Replace(Regex(" {2,}"), " ")]
    )
    result.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Metaspace(replacement=SPACE_MARK, prepend_scheme="always"),
        ]
    )
    result.decoder = decoders.Metaspace(replacement=SPACE_MARK, prepend_scheme="always")
    result.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A {end}", special_tokens=[(begin, BEGIN), (end, END)]
    )
    return result


def _fields(message):
    """Yields (field number, value) of a protobuf message: bytes, integers and floats."""
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        number, wire_type = key >> 3, key & 7
        if wire_type == 0:
            value, position = _varint(message, position)
        elif wire_type == 1:
            value, position = message[position : position + 8], position + 8
        elif wire_type == 2:
            length, position = _varint(message, position)
            value, position = message[position : position + length], position + length
        elif wire_type == 5:
            (value,) = struct.unpack_from("<f", message, position)
            position += 4
        else:
            raise ValueError(f"wire type {wire_type} is none of protobuf's")
        yield number, value


def _varint(message, position):
    value = shift = 0
    while True:
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, position
