"""Calls that a pickle may make and no torch.save writes, as torch files: the table of judge_calls.py.

A case is a value as it would be written in Python; `torch_file` pickles it in the opcodes that the weights_only loader has.
"""

import io
import struct
import zipfile


class Thing:
    """Something in a pickle that Python has no literal for. One that is met twice is one object."""

    def __init__(self, name, *args):
        self.name = name
        self.args = args

    def __repr__(self):
        name = self.name if "cuda" in self.name or "sparse" in self.name else self.name.rpartition(".")[2]
        return f"{name}({', '.join(map(repr, self.args))})"


class Call(Thing):
    """name(*args)"""


class New(Thing):
    """name.__new__(name, *args)"""

    def __repr__(self):
        return "new " + super().__repr__()


class Name(Thing):
    """The class or function itself."""

    def __repr__(self):
        return self.name


class Storage(Thing):
    """A storage with a record: dtype's class, struct's letter, elements."""

    def __init__(self, name, letter, values):
        super().__init__(name, values)
        self.data = struct.pack(f"<{len(values)}{letter}", *values)


class Then(Thing):
    """An object, and what is done to it afterwards: "build" with a state, or "set" with a dict."""

    def __init__(self, target, how, what):
        super().__init__(how, what)
        self.target = target

    def __repr__(self):
        return f"{self.target!r} then {super().__repr__()}"


class Pickler:
    """A pickle of protocol 2 in the opcodes that the weights_only loader has."""

    def __init__(self):
        self.out = bytearray(b"\x80\x02")
        self.memo = {}  # id -> number
        self.kept = []  # so that no id is given out twice
        self.records = []

    def save(self, value):
        if id(value) in self.memo and isinstance(value, (Thing, list, dict)):
            self.out += b"j" + struct.pack("<I", self.memo[id(value)])
            return
        self.write(value)
        if isinstance(value, (Thing, list, dict)):
            self.kept.append(value)
            self.memo[id(value)] = len(self.memo)
            self.out += b"r" + struct.pack("<I", self.memo[id(value)])

    def write(self, value):
        if value is None or isinstance(value, bool):
            self.out += {None: b"N", True: b"\x88", False: b"\x89"}[value]
        elif isinstance(value, int):
            data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
            self.out += b"\x8a" + bytes([len(data)]) + data
        elif isinstance(value, float):
            self.out += b"G" + struct.pack(">d", value)
        elif isinstance(value, str):
            data = value.encode("utf-8", "surrogatepass")
            self.out += b"X" + struct.pack("<I", len(data)) + data
        elif isinstance(value, bytes):
            self.save(Call("_codecs.encode", value.decode("latin-1"), "latin1"))
        elif isinstance(value, tuple):
            self.group(value, b"t")
        elif isinstance(value, list):
            self.out += b"]"
            self.group(value, b"e")
        elif isinstance(value, dict):
            self.out += b"}"
            self.group([part for item in value.items() for part in item], b"u")
        else:
            self.write_thing(value)

    def group(self, values, end):
        self.out += b"("
        for value in values:
            self.save(value)
        self.out += end

    def write_thing(self, thing):
        if isinstance(thing, Storage):
            self.save(("storage", Name(thing.name), str(len(self.records)), "cpu", len(thing.args[0])))
            self.out += b"Q"
            self.records.append(thing.data)
            return
        if isinstance(thing, Then):
            self.write(thing.target)
            if thing.name == "set":
                self.group([part for item in thing.args[0].items() for part in item], b"u")
            else:
                self.save(thing.args[0])
                self.out += b"b"
            return
        module, _, name = thing.name.rpartition(".")
        self.out += f"c{module}\n{name}\n".encode()
        if isinstance(thing, (Call, New)):
            self.save(thing.args)
            self.out += b"\x81" if isinstance(thing, New) else b"R"


def torch_file(value):
    pickler = Pickler()
    pickler.save(value)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(zipfile.ZipInfo("archive/data.pkl"), bytes(pickler.out) + b".")
        for number, data in enumerate(pickler.records):
            archive.writestr(zipfile.ZipInfo(f"archive/data/{number}"), data)
        archive.writestr(zipfile.ZipInfo("archive/version"), b"3\n")
    return file.getvalue()


def size(*extents):
    return Call("torch.Size", extents)


def tensor(name, letter, values, shape=None, grad=False):
    shape = (len(values),) if shape is None else shape
    strides = [1]
    for extent in shape[:0:-1]:
        strides.insert(0, strides[0] * extent)
    storage = Storage(f"torch.{name}Storage", letter, values)
    return Call("torch._utils._rebuild_tensor_v2", storage, 0, shape, tuple(strides[: len(shape)]), grad, Call("collections.OrderedDict"))


def floats(**options):
    return tensor("Float", "f", [1.0, 2.0], **options)


def ints(**options):
    return tensor("Long", "q", [1, 2], **options)


def arguments():
    """One of each kind that a call could be given."""
    yield from [None, True, 0, 1, 5, -1, 300, 1 << 40, 1 << 63, -(1 << 70), 2.5, -0.0, 3.0, float("inf"), float("nan"), 1e300]
    yield from ["", "a", "abca", "ab", "é中", "\ud800", "😀", "1+2j", " 1.5 ", "cuda:0", b"", b"ab", b"\xff\0", Call("builtins.bytearray", b"ab")]
    yield from [(), (1,), (1, 2), (1, "a"), (2.5, True), [], [1, 2, 1], [[1, 2], [3, 4]], [[1], [2, 3]], [(1, 2), [3, 4]], [[], []], [[[1]]]]
    yield from [[1.5, 2], [1, True], [True], [1, None], ["ab", "cd"], ["a", "b", "a"], ["abc"], [("k", 1), ["l", [2]]], [("k", 1), ("k", 2)]]
    yield from [[("k", 1, 2)], [([], 1)], [[1, 1.0], [True, 2]], (("a", 1),), [b"ab"], [300], [-1], [256, 255], [1 << 40], [1 << 63], [1 << 70]]
    yield from [[float("nan"), float("inf"), -0.0], [1e300], [-2.5, 2.5], [Call("builtins.complex", 1.0, 2.0)], [(1, 2), 3], [1, (2, 3)]]
    yield from [{}, {"a": 1, "b": 2}, {1: 2, 3: 4}, {("a", 1): None}, Then(Call("collections.OrderedDict"), "set", {"b": 2, "a": 1})]
    yield from [Call("collections.Counter", {"a": 2, "b": 1}), Call("builtins.set", [1, 2]), Call("builtins.set", [(1, 2)]), Call("builtins.set", [])]
    yield from [size(), size(2), size(1, 2), [size(1, 2), size(3, 4)], Call("builtins.complex", 1.0, 2.0), Name("torch.float32")]
    yield from [Call("torch.device", "cpu"), Call("torch.device", "cuda", 1), Call("torch.serialization._get_layout", "torch.strided")]
    yield from [floats(), ints(), floats(shape=(2, 1)), floats(grad=True), tensor("Float", "f", [1.5], shape=()), tensor("Long", "q", [3], shape=())]
    yield from [[tensor("Float", "f", [1.5], shape=()), 2], tensor("Byte", "B", [1, 2]), Name("collections.OrderedDict"), Name("torch.FloatStorage")]
    yield from [Storage("torch.FloatStorage", "f", [1.0, 2.0]), Storage("torch.LongStorage", "q", [1]),
        Storage("torch.storage.UntypedStorage", "B", [1, 2])]
    yield from [Storage("torch.ByteStorage", "B", [1, 2]), Call("torch.storage.UntypedStorage", [1, 2]), Call("builtins.Exception", 1)]


CALLABLES = ["builtins.set", "collections.OrderedDict", "collections.Counter", "builtins.bytearray", "builtins.complex", "torch.Size", "torch.device",
             "torch.Tensor", "torch.FloatTensor", "torch.LongTensor", "torch.storage.UntypedStorage"]
TENSORS = ["DoubleTensor", "HalfTensor", "BFloat16Tensor", "IntTensor", "ShortTensor", "CharTensor", "ByteTensor", "BoolTensor"]
CODECS = ["utf-8", "utf8", "UTF-8", "Utf_8", "U8", "utf", "cp65001", "utf-8-sig", "ascii", "us-ascii", "646", "latin-1", "latin1", "latin_1", "L1",
          "iso-8859-1", "ISO8859_1", "8859", "cp819", "utf-16", "U16", "utf16", "utf-16-le", "utf-16le", "UTF-16BE", "utf-16-be", "utf-32", "U32",
          "utf-32-le", "utf-32be", "utf-7", "cp1252", "cp437", "raw_unicode_escape", "unicode_escape", "idna", "punycode", "rot13", "hex", "mbcs",
          "", "nonsense", "utf 8", "utf--8", " utf-8", "utf-8 ", "utf.8", "latin 1", "ütf-8", "utf-8\0", "iso-ir-6", "ISO_646.irv_1991",
          "ansi_x3.4_1968", "iso-ir-100", "csisolatin1", "iso_8859_1_1987", "utf8_ucs4", "utf-16-LE", "unicodelittleunmarked",
          "unicodebigunmarked", "cp367", "ibm819"]
ERRORS = ["strict", "ignore", "replace", "backslashreplace", "xmlcharrefreplace", "namereplace", "surrogateescape", "surrogatepass", "nonsense", ""]


def calls():
    """Every call."""
    for name in CALLABLES:
        yield Call(name)
        yield New(name)
        for argument in arguments():
            if "Storage" in name and repr(argument) == repr(tensor("Long", "q", [3], shape=())):
                continue  # its size, and so whatever was in memory
            yield Call(name, argument)
        for argument in ["abca", 5, [1, 2], [("k", 1)], {"a": 1}, (1, 2), "cuda:0", 2.5, floats(), b"ab"]:
            yield New(name, argument)
    for name in TENSORS:
        for argument in [[1, 2], (1, 2), [2.5], [True, False], [300, -300], [1 << 40], [[1, 2], [3, 4]], 5, 0, size(2), floats(), ints(), [], [[]],
                         [float("nan")], [1e300], [0.1, 1 / 3, 65519.0, 65520.0, 1e-8, 3.0000001], [127, 128], [-129], [255], [256], [1e10]]:
            yield Call("torch." + name, argument)
        yield Call("torch." + name)
    for module in ("torch.cuda", "torch.sparse", "torch.cuda.sparse"):
        for arguments_ in [(), ([1, 2],), (2, 3), (size(2, 3),), (0,), (ints(shape=(1, 2)), floats()), (ints(shape=(1, 2)), floats(), size(4))]:
            yield Call(module + ".FloatTensor", *arguments_)
    yield from two_arguments()
    yield from codecs()
    yield from places()


def two_arguments():
    for text in ["x", "é", "", "\ud800"]:
        for codec in ["utf-8", "latin-1", "ascii", "utf-16", "nonsense", None, 5]:
            yield Call("builtins.bytearray", text, codec)
            yield Call("builtins.bytearray", text, codec, "ignore")
    yield from [Call("builtins.bytearray", b"x", "utf-8"), Call("builtins.bytearray", 5, "utf-8"), Call("builtins.bytearray", [1], "utf-8")]
    yield from [Call("builtins.bytearray", 100_000), Call("builtins.bytearray", [1, 2], None), Call("builtins.bytearray", "x", "utf-8", "strict", 1)]
    numbers = [1, True, 2.5, -0.0, 1 << 63, 1 << 70, 1 << 1030, (1 << 53) + 1, Call("builtins.complex", 1.0, 2.0), "1", None, [1], float("nan"), b"1"]
    for first in numbers:
        for second in numbers:
            yield Call("builtins.complex", first, second)
    for text in ["1", "1.5", "j", "-j", "+j", "1j", "1+j", "1-2j", "1e5", "1E-5j", "1e5+2e-3J", "(1+2j)", " ( 1+2j ) ", "( 1 + 2j )", "1 + 2j",
            "inf", "-inf+nanj",
                 "infinity", "nan", "-nan", "NaN-Infinityj", "1_000", "1__0", "_1", "1_", "1_0.0_1+1_0j", ".5", "5.", ".", "", "()", "(1", "1)",
                     "1+2", "1+2jj", "2j+1",
                 "0x10", "1e400", "1e-400", "-0", "-0-0j", "1+-2j", "1 2", "\t1+2j\n", "\u00a01", "\u0661", "1\0", "1e", "1e+", "infj", "0.1+0.2j",
                     "1" * 400,
                 "9007199254740993", "2.2250738585072011e-308", "1+infinityj", "+1", "++1", "é", "\ud800", "１+２j", "4.9e-324j", "1e5_0",
                     "i", "1i",
                     "\u20031"]:
        yield Call("builtins.complex", text)
    yield from [Call("builtins.complex", 1, 2, 3), Call("torch.Size", 1, 2), Call("torch.Size", (1,), 2), Call("builtins.set", [1], [2])]
    yield from [Call("collections.OrderedDict", [], []), Call("collections.Counter", [], [])]
    for kind in ["cpu", "cuda", "mps", "meta", "xla", "nonsense", "", "CPU", "cuda:1", "cpu:0", "cpu:1", "cuda:-1", "cuda:01", "cuda:", "cuda:a",
            "cuda:128", "cuda:300",
                 "privateuseone", "hpu", "ipu", "xpu", "mtia", "maia", "vulkan", "lazy", "ve", "fpga", "mkldnn", "opengl", "opencl", "ideep", "hip",
                     "metal", "cuda: 1", "cuda:1 ",
                 "cuda:1:2", "cuda:0", "cuda:127", "cuda:2147483648", "cuda:00", "meta:3"]:
        yield Call("torch.device", kind)
        yield Call("torch.device", kind, 0)
    for index in [-1, -2, 1, 127, 128, 255, 256, 300, 1 << 31, 1 << 70, True, 2.0, None, "1", 0.0]:
        yield Call("torch.device", "cuda", index)
    yield from [Call("torch.device", "cpu", 3), Call("torch.device", index_of := Call("torch.device", "cuda", 1), 1), Call("torch.device", 0, 1)]
    yield from [Call("torch.device", index_of), Call("torch.device", "cuda", 1, 2), Call("torch.device", -1), Call("torch.device", 127),
        Call("torch.device", 128)]
    for name in ("torch.Tensor", "torch.FloatTensor", "torch.LongTensor", "torch.storage.UntypedStorage"):
        for arguments_ in [(2, 3), (0, 3), (3, 0), (2, 0, 4), (0, -1), (1, 2.0), ([1], [2]), (size(2), 1), ((1, 2), 3), (floats(), floats()),
                (2, True), (0, 1 << 62, 4)]:
            yield Call(name, *arguments_)
        for argument in [size(0), size(0, 3), size(3, 0), size(2, 3), [size(), size()], [[[]]], [[[1, 2]], [[3, 4]]], [[1, 2], 3], [3, [1, 2]],
                ["1"], [[1, 2], ["a"]], [{}],
                         [Call("builtins.set", [])], [[1, [2]], [3, 4]], Call("collections.Counter", [1]),
                             [Call("builtins.bytearray", 2), Call("builtins.bytearray", 2)],
                         ["", ""], [b"ab"], [Name("torch.float32")], [Call("collections.OrderedDict")], deep(10), deep(30), deep(129), [True, 2],
                             [None]]:
            yield Call(name, argument)
    for dtype in ("torch.float32", "torch.int64"):
        yield Call("torch.storage.TypedStorage", Name(dtype))
    yield from [Call("torch.storage.TypedStorage"), Call("torch.storage.TypedStorage", 5), Call("torch.storage.TypedStorage", [1, 2]),
        New("torch.storage.TypedStorage")]
    for name in ("torch.FloatStorage", "torch.LongStorage"):
        yield from [Call(name), Call(name, 5), Call(name, [1, 2]), New(name, [1, 2])]


def deep(levels):
    value = 1
    for _ in range(levels):
        value = [value]
    return value


def codecs():
    for codec in CODECS:
        for text in ["", "x", "é", "中", "😀", "\ud800"]:
            yield Call("_codecs.encode", text, codec)
    for errors in ERRORS:
        for text in ["aé", "x", "a中\ud800"]:
            for codec in ["ascii", "utf-8", "latin-1", "utf-16-le"]:
                yield Call("_codecs.encode", text, codec, errors)
    yield from [Call("_codecs.encode"), Call("_codecs.encode", "x"), Call("_codecs.encode", "é中"), Call("_codecs.encode", 5),
        Call("_codecs.encode", b"x"), Call("_codecs.encode", b"x", "utf-8")]
    yield from [Call("_codecs.encode", b"x", "hex"), Call("_codecs.encode", "x", None), Call("_codecs.encode", "x", b"utf-8"),
        Call("_codecs.encode", "x", "utf-8", None), New("_codecs.encode", "x")]
    yield from [Call("_codecs.encode", "x", "utf-8", 5), Call("_codecs.encode", "x", "utf-8", "strict", 1),
        Call("_codecs.encode", "\U0010ffff", "utf-16"), Call("_codecs.encode", "\ud83d\ude00", "utf-16")]


def places():
    """Where what a call made is used, and changed."""
    made = Call("builtins.set", "ab")
    yield [made, made]
    changed = [1]
    yield {"before": Call("builtins.set", changed), "list": changed}
    for key in [Call("_codecs.encode", "é", "utf-8"), Call("builtins.complex"), Call("builtins.complex", 1), Call("builtins.complex", "1"),
            Call("torch.Size", [1, 2]),
                Call("torch.device", "cuda:1"), Call("builtins.bytearray", 1), Call("builtins.set", "ab"), Call("torch.Size")]:
        yield {key: 1}
        yield Call("builtins.set", [key, key])
        yield Call("builtins.set", (key, 1, 1.0, b"\xc3\xa9", Call("builtins.complex", 1.0, 0.0), Call("torch.device", "cuda", 1), size(1, 2),
            (1, 2)))
        yield Call("collections.Counter", [key, 1, True, b"\xc3\xa9", Call("torch.device", "cuda", 1), size(1, 2), (1, 2)])
        yield Call("collections.OrderedDict", [(key, 1), (1, 2), (b"\xc3\xa9", 3), (size(1, 2), 4), ((1, 2), 5),
            (Call("torch.device", "cuda", 1), 6)])
    ordered = Call("collections.OrderedDict", [("a", 1), ("b", 2)])
    counter = Call("collections.Counter", "aab")
    yield from [Then(ordered, "set", {"a": 5, "c": 6}), Then(counter, "set", {"a": "x", "c": 6}),
        Then(Call("collections.Counter", {"a": "text"}), "set", {"b": 1})]
    yield from [Then(ordered, "build", {"mark": 1}), Then(Then(ordered, "build", {"mark": 1}), "build", {"other": 2}),
        Then(ordered, "build", [("mark", 1)]), Then(ordered, "build", ())]
    yield from [Then(counter, "build", {"mark": 1}), Then(Call("builtins.set", [1]), "build", {}), Then(Call("builtins.set", [1]), "build", None),
        Then(Call("builtins.set", [1]), "build", {"a": 1})]
    yield from [Then(New("collections.OrderedDict", [("a", 1)]), "set", {"b": 2}), Then(New("collections.Counter", "ab"), "set", {"b": 2}),
        Then(Call("builtins.complex", 1), "build", None)]
    yield from [Then({}, "build", None), Then([1], "build", None), Then(floats(), "build", None), Then(Call("torch.Size", [1]), "build", {}),
        Then(Call("torch.device", "cpu"), "build", ())]
    storage = Storage("torch.FloatStorage", "f", [1.0, 2.0, 3.0])
    for state in [(storage, 1, (2,), (1,)), [storage, 1, (2,), (1,)], (storage,), (), (floats(),), (storage, 0, size(3), (1,)), (storage, 0, (3,)),
            (Call("torch.storage.UntypedStorage", 4), 0, (0,), (1,))]:
        for target in [Call("torch.FloatTensor"), Call("torch.Tensor"), Call("torch.FloatTensor", [7, 8]), floats(), New("torch.FloatTensor")]:
            yield Then(target, "build", state)
    shared = floats()
    yield from [[shared, Call("torch.FloatTensor", shared)], [storage, Call("torch.FloatTensor", storage)],
        [storage, Call("torch.IntTensor", storage)]]
    data = Call("torch.FloatTensor", [1, 2])
    yield from [[data, data], Call("torch.nn.parameter.Parameter", data),
        Call("torch._utils._rebuild_parameter", data, True, Call("collections.OrderedDict"))]
    untyped = Call("torch.storage.UntypedStorage", [0, 0, 128, 63])
    hooks = Call("collections.OrderedDict")
    yield from [[untyped, untyped], Call("torch._utils._rebuild_tensor_v2", untyped, 0, (1,), (1,), False, hooks),
        Call("torch.FloatTensor", untyped), Call("torch.ByteTensor", untyped)]
    yield from [Call("torch._utils._rebuild_tensor_v3", untyped, 0, (1,), (1,), False, hooks, Name("torch.float32")),
        Then(Call("torch.FloatTensor"), "build", (untyped, 0, (1,), (1,)))]
    yield from [Call("torch._utils._rebuild_tensor_v2", storage, 0, Call("torch.Size", [3]), Call("torch.Size", [1]), False,
        Call("collections.OrderedDict", [])),
                Call("torch._utils._rebuild_tensor_v2", storage, 0, [3], [1], False, {}),
                    Call("torch._utils._rebuild_tensor_v2", storage, 0, (3,), (1,), False, None)]
    for attributes in [{}, {"a": 1}]:
        yield Call("torch._tensor._rebuild_from_type_v2", Name("torch.FloatTensor"), Name("torch.Tensor"), ([1, 2],), attributes)
    yield from [Call("torch._utils._rebuild_sparse_tensor", Call("torch.serialization._get_layout", "torch.sparse_coo"),
        (Call("torch.LongTensor", [[0, 1]]), data, Call("torch.Size", [3])))]
    for argument in [Call("builtins.set", "a"), Call("builtins.bytearray", 2), Call("collections.Counter", "aab"), ordered,
            Call("_codecs.encode", "é", "utf-8"), Call("torch.Size", [3, 4]), data,
                     {Call("builtins.complex"): 1}, Call("collections.OrderedDict", "")]:
        for name in CALLABLES[:6] + ["torch.FloatTensor"]:
            yield Call(name, argument)
    yield sample()
    yield [Call("torch.FloatTensor", list(range(300))), Call("torch.LongTensor", [list(range(100)), list(range(100))]),
        Call("torch.storage.UntypedStorage", list(range(256)) * 5)]


def sample():
    """A call of each form, all in one tree: tests/data/objects/calls.pt, from which mutations and fuzzers start."""
    texts = ["é中", "\ud800", "a"]
    encoded = [Call("_codecs.encode", text, codec, errors) for text in texts for codec, errors in
               [("utf-8", "replace"), ("ascii", "backslashreplace"), ("latin-1", "ignore"), ("utf-16", "surrogatepass"),
                   ("U32", "xmlcharrefreplace")]]
    made = Call("torch.FloatTensor", [[1, 2.5], [True, -3]])
    storage = Storage("torch.FloatStorage", "f", [1.0, 2.0])
    return {
        "set": [Call("builtins.set", "abca"), Call("builtins.set", (1, 2.5, None)), Call("builtins.set", {"k": 1}), New("builtins.set", [1])],
        "dict": [Call("collections.OrderedDict", [("a", 1), ["b", 2], "cd"]), Call("collections.OrderedDict", {"a": 1}),
            Call("collections.Counter", [1, True, "a"]),
                 Call("collections.Counter", "abca"), Then(Call("collections.OrderedDict", "") , "build", [("mark", 1)]),
                     Then(Call("collections.Counter", b"aab"), "set", {"x": 1})],
        "bytes": [Call("builtins.bytearray", 5), Call("builtins.bytearray", [1, 255]), Call("builtins.bytearray", "é", "utf-8"),
            Call("builtins.bytearray", b"ab"), *encoded],
        "numbers": [Call("builtins.complex", *args) for args in [(), (1,), ("1-2.5e3j",), (1, Call("builtins.complex", 2, 3.5)), (1 << 70, -0.0)]],
        "torch": [Call("torch.Size", [1, True]), Call("torch.Size"), Call("torch.device", "cuda:1"),
            Call("torch.device", Call("torch.device", "cpu")), Call("torch.device", "cuda", None)],
        "tensors": [made, Call("torch.Tensor", made), Call("torch.LongTensor", (1, -2)), Call("torch.HalfTensor", [0.1]),
            Call("torch.BoolTensor", [0, 2.5]), Call("torch.ByteTensor", [-1]),
                    Call("torch.DoubleTensor", [1 << 70]), Call("torch.FloatTensor", 0, 3), Call("torch.FloatTensor", storage),
                        Call("torch.FloatTensor", floats()), Call("torch.FloatTensor")],
        "storages": [Call("torch.storage.UntypedStorage", [1, 256]), Call("torch.FloatTensor",
            Call("torch.storage.UntypedStorage", [0, 0, 128, 63])), Then(Call("torch.FloatTensor"), "build", (storage, 0, (2,), (1,))),
            Call("torch.storage.TypedStorage", [1, 2])],
        Call("torch.Size", (3,)): Call("torch._tensor._rebuild_from_type_v2", Name("torch.FloatTensor"), Name("torch.Tensor"), ([1, 2],), {}),
    }


def is_undefined(value):
    """Whether it is, or holds, a tensor or storage that was given only a size, and has elements."""
    if isinstance(value, Storage):
        return False
    if isinstance(value, Then):
        return is_undefined(value.args[0]) or is_undefined(value.target) and value.name != "build"
    if isinstance(value, (list, tuple)):
        return any(map(is_undefined, value))
    if not isinstance(value, (Call, New)):
        return False
    if value.name.endswith(("Tensor", "UntypedStorage", "TypedStorage")) and "sparse" not in value.name:
        extents = value.args
        if len(extents) == 1 and isinstance(extents[0], Call) and extents[0].name == "torch.Size" and value.name.endswith("Tensor"):
            extents = extents[0].args[0] if extents[0].args else ()
            return 0 not in extents
        if all(isinstance(extent, int) for extent in extents) and extents:
            return not any(int(extent) == 0 for extent in extents)
    return is_undefined(value.args)


def cases():
    """name: value"""
    found = {}
    for value in calls():
        found.setdefault(repr(value), value)
    return found
