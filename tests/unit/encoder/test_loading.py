"""A release is checked from its announced size to its golden profiles, or it is refused."""

import dataclasses
import hashlib
import io
import pickle
import threading

import numpy as np
import pytest

from schemas.encoder_releases import EncoderRelease
from schemas.errors import ReleaseError, SettingsError
from schemas.features import PlainProfile, hash_profiles
from schemas.manifest import Manifest
from schemas.signing import SigningKey
from streams.core.profiles import Profile
from streams.releases.encoder import Encoder
from streams.releases.fetch import Fetcher, trusted_keys
from streams.releases.onnx_scan import check_self_contained
from streams.releases.store import Store

KEY = SigningKey.new("team")
MIB = 1024 * 1024


@pytest.fixture
def store(tmp_path):
    return Store(str(tmp_path / "store"))


@pytest.fixture
def fetcher(store):
    return Fetcher(store=store, trusted=[KEY.public], most_bytes=8 * MIB)


def published(store, small, key=KEY, model=None, **changes):
    """Publish a release, with a model of another content or a manifest that says otherwise."""
    if model is not None:
        changes["model_sha256"] = hashlib.sha256(model).hexdigest()
        changes["model_bytes"] = len(model)
    manifest = dataclasses.replace(small.manifest, **changes)
    return store.publish(manifest, small.model if model is None else model, key)


def changed_model(small, change) -> bytes:
    import onnx

    model = onnx.load_from_string(small.model)
    change(model)
    return model.SerializeToString()


def test_a_sound_release_is_loaded_and_encodes(store, fetcher, small):
    encoder = fetcher.fetch("people", published(store, small))
    assert encoder.version == "people@1.2.0"
    z = encoder.encode([row.profile for row in small.rows[:7]], small.rows[0].at_ms)
    assert z.shape == (7, 8)
    assert z.dtype == np.float32
    assert encoder.encode([], 0).shape == (0, 8)


def test_a_shards_profile_and_its_logged_features_give_the_same_encoding(store, fetcher, small):
    encoder = fetcher.fetch("people", published(store, small))
    row = small.rows[5]
    folded = Profile(
        attributes=dict(row.profile.attributes),
        counts=dict(row.profile.counts),
        contacts=dict.fromkeys(row.profile.contacts, "someone"),
        sends=list(row.profile.sends),
    )
    z = encoder.encode([folded], row.at_ms)
    logged = hash_profiles([row.profile], [row.at_ms])
    assert np.array_equal(z, encoder.encode_features(logged))


def test_one_flipped_byte_anywhere_in_the_store_is_refused(store, fetcher, small, tmp_path):
    release = published(store, small)
    for path in sorted((tmp_path / "store").iterdir()):
        whole = path.read_bytes()
        for at in np.linspace(0, len(whole) - 1, 40).astype(int):
            flipped = bytearray(whole)
            flipped[at] ^= 0x10
            path.write_bytes(bytes(flipped))
            with pytest.raises(ReleaseError, match="not what its name says"):
                fetcher.fetch("people", release)
        path.write_bytes(whole)
    fetcher.fetch("people", release)


def test_one_flipped_byte_of_a_model_is_refused_whatever_the_store_says(small):
    flipped = bytearray(small.model)
    flipped[len(flipped) // 2] ^= 1
    with pytest.raises(ReleaseError, match="checksum"):
        Encoder.load(small.manifest, bytes(flipped))


def test_an_unknown_signer_is_refused(store, fetcher, small):
    stranger = SigningKey.new("stranger")
    with pytest.raises(ReleaseError, match=stranger.public.key_id):
        fetcher.fetch("people", published(store, small, key=stranger))


def test_an_older_version_than_the_live_one_is_refused_unless_it_is_a_rollback(
    store, fetcher, small
):
    release = published(store, small)
    with pytest.raises(ReleaseError, match=r"1\.2\.0 is older than 1\.10\.0.*rollback"):
        fetcher.fetch("people", release, live="1.10.0")
    assert fetcher.fetch("people", release, live="1.10.0", rollback=True).version == "people@1.2.0"
    assert fetcher.fetch("people", release, live="1.2.0").version == "people@1.2.0"


def test_a_release_of_another_name_or_version_than_announced_is_refused(store, fetcher, small):
    release = published(store, small)
    for name, announced in (
        ("others", release),
        ("people", dataclasses.replace(release, version="1.3.0")),
    ):
        with pytest.raises(ReleaseError, match=r"its manifest is of people@1\.2\.0"):
            fetcher.fetch(name, announced)


def test_an_announced_size_of_ten_gigabytes_is_refused_before_anything_is_fetched(small, tmp_path):
    nothing = Store(str(tmp_path / "nothing there"))
    fetcher = Fetcher(store=nothing, trusted=[KEY.public], most_bytes=8 * MIB)
    huge = EncoderRelease(
        version="1.2.0", sha256="0" * 64, model_bytes=10 * 1024**3, signer="", published_at_ms=0
    )
    with pytest.raises(ReleaseError, match=r"announces 10737418240 bytes.*GROUNDSWELL_ENCODER_MB"):
        fetcher.fetch("people", huge)


def test_a_file_that_is_larger_than_announced_is_not_read(store, fetcher, small, tmp_path):
    release = published(store, small)
    model = next((tmp_path / "store").glob("*.onnx"))
    model.write_bytes(small.model + b"\0" * MIB)
    with pytest.raises(ReleaseError, match="at most"):
        fetcher.fetch("people", release)


def test_a_size_that_the_manifest_does_not_confirm_is_refused(store, fetcher, small):
    release = dataclasses.replace(published(store, small), model_bytes=7)
    with pytest.raises(ReleaseError, match="its manifest says"):
        fetcher.fetch("people", release)


def test_a_release_that_is_not_in_the_store_is_refused(fetcher):
    gone = EncoderRelease(
        version="1.2.0", sha256="0" * 64, model_bytes=7, signer="", published_at_ms=0
    )
    with pytest.raises(ReleaseError, match="cannot be fetched"):
        fetcher.fetch("people", gone)


def test_wrong_input_names_are_refused(store, fetcher, small):
    def rename(model):
        model.graph.input[0].name = "surprise"
        for node in model.graph.node:
            node.input[:] = ["surprise" if i == "token_index" else i for i in node.input]

    release = published(store, small, model=changed_model(small, rename))
    with pytest.raises(ReleaseError, match=r"takes .*surprise"):
        fetcher.fetch("people", release)


def test_a_wrong_output_is_refused(store, fetcher, small):
    def rename(model):
        model.graph.output[0].name = "y"
        model.graph.node[-1].output[0] = "y"

    release = published(store, small, model=changed_model(small, rename))
    with pytest.raises(ReleaseError, match="gives y, z is due"):
        fetcher.fetch("people", release)


def test_a_golden_profile_that_is_encoded_otherwise_is_refused(store, fetcher, small):
    golden = small.manifest.golden_profiles
    off = dataclasses.replace(golden[3], z=[x + 0.001 for x in golden[3].z])
    release = published(store, small, golden_profiles=[*golden[:3], off, *golden[4:]])
    with pytest.raises(ReleaseError, match=r"encoded 0\.00.* apart"):
        fetcher.fetch("people", release)


def test_a_model_that_gives_no_numbers_is_refused(store, fetcher, small):
    import onnx

    def poison(model):
        for constant in model.graph.initializer:
            if constant.name == "third_bias":
                nan = np.full(8, np.nan, dtype=np.float32)
                constant.CopyFrom(onnx.numpy_helper.from_array(nan, "third_bias"))

    release = published(store, small, model=changed_model(small, poison))
    with pytest.raises(ReleaseError, match="encoded nan apart"):
        fetcher.fetch("people", release)


@pytest.mark.parametrize("users", [11, 500])  # 11: as many as there are golden profiles
def test_a_model_for_one_number_of_users_alone_is_refused(small, users):
    def fix(model):
        for put in model.graph.input:
            put.type.tensor_type.shape.dim[0].dim_value = users

    model = changed_model(small, fix)
    digest = hashlib.sha256(model).hexdigest()
    manifest = dataclasses.replace(small.manifest, model_sha256=digest, model_bytes=len(model))
    assert len(manifest.golden_profiles) == 11
    with pytest.raises(ReleaseError, match=rf"exactly {users} users .* first dimension"):
        Encoder.load(manifest, model)


def test_a_model_that_has_one_number_of_users_inside_is_refused(small):
    """Its inputs say that any number will do."""
    from onnx import helper, numpy_helper

    def fix(model):
        graph = model.graph
        shape = numpy_helper.from_array(np.array([11, 8], dtype=np.int64), "fixed_shape")
        graph.initializer.append(shape)
        graph.node[-1].output[0] = "before"
        graph.node.append(helper.make_node("Reshape", ["before", "fixed_shape"], ["z"]))

    model = changed_model(small, fix)
    digest = hashlib.sha256(model).hexdigest()
    manifest = dataclasses.replace(small.manifest, model_sha256=digest, model_bytes=len(model))
    with pytest.raises(ReleaseError, match="not 1 users at once"):
        Encoder.load(manifest, model)


@pytest.mark.parametrize("name", ["0g", "abc", "AB", "é0"])
def test_a_manifest_with_a_golden_name_that_is_no_hex_is_refused(small, name):
    text = small.manifest.to_bytes().decode()
    before = small.manifest.golden_hashes[1].name_hex
    garbled = text.replace(f'"name_hex":"{before}"', f'"name_hex":"{name}"', 1)
    assert garbled != text
    with pytest.raises(ReleaseError, match="hex digits"):
        Manifest.from_bytes(garbled.encode())


class Bomb:
    def __reduce__(self) -> tuple[object, ...]:
        return (exec, ("raise SystemExit('the pickle ran')",))


def test_a_pickle_is_refused_and_never_opened(store, fetcher, small):
    import torch

    archive = io.BytesIO()
    torch.save({"weight": torch.zeros(2)}, archive)
    for model in (pickle.dumps(Bomb()), archive.getvalue()):
        with pytest.raises(ReleaseError, match="pickle"):
            fetcher.fetch("people", published(store, small, model=model))


@pytest.mark.parametrize("path", ["../../etc/passwd", "/etc/passwd", "weights.bin"])
def test_weights_in_other_files_are_refused(store, fetcher, small, path):
    import onnx

    def move_out(model):
        tensor = next(t for t in model.graph.initializer if t.name == "embedding")
        onnx.external_data_helper.set_external_data(tensor, path)
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.ClearField("raw_data")

    release = published(store, small, model=changed_model(small, move_out))
    with pytest.raises(ReleaseError, match="external data"):
        fetcher.fetch("people", release)


def test_weights_in_other_files_are_found_in_every_place_a_tensor_can_be():
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper

    def outside(name="w"):
        tensor = TensorProto(name=name, data_type=1, dims=[1], data_location=1)
        tensor.external_data.add(key="location", value="/etc/passwd")
        return tensor

    sparse = onnx.SparseTensorProto(values=outside(), dims=[1])
    inner = helper.make_graph([], "inner", [], [], [outside()])
    places = {
        "a constant": helper.make_node("Constant", [], ["y"], value=outside()),
        "a list": helper.make_node("Made", [], ["y"], domain="up", values=[outside()]),
        "a branch": helper.make_node("If", ["c"], ["y"], then_branch=inner),
        "branches": helper.make_node("Made", [], ["y"], domain="up", graphs=[inner]),
        "a sparse constant": helper.make_node("Constant", [], ["y"], sparse_value=sparse),
    }
    for place, node in places.items():
        model = helper.make_model(helper.make_graph([node], "g", [], []))
        with pytest.raises(ReleaseError, match="external data"):
            check_self_contained(model.SerializeToString())
        function = helper.make_function("up", "F", [], [], [node], [])
        model = helper.make_model(helper.make_graph([], "g", [], []), functions=[function])
        with pytest.raises(ReleaseError, match="external data"):
            check_self_contained(model.SerializeToString())
        assert place
    graph = helper.make_graph([], "g", [], [])
    graph.sparse_initializer.append(sparse)
    training = onnx.TrainingInfoProto(algorithm=inner)
    for model in (
        helper.make_model(graph),
        onnx.ModelProto(graph=helper.make_graph([], "g", [], []), training_info=[training]),
    ):
        with pytest.raises(ReleaseError, match="external data"):
            check_self_contained(model.SerializeToString())


@pytest.mark.parametrize(
    "model", [b"\0", b"onnx", b"\x08\x08", b"\x0a\xff\xff", b"{}", bytes(range(64))]
)
def test_what_is_no_onnx_file_is_refused(store, fetcher, small, model):
    with pytest.raises(ReleaseError, match="no ONNX file"):
        fetcher.fetch("people", published(store, small, model=model))


def test_an_operator_that_onnxruntime_does_not_know_is_refused(store, fetcher, small):
    def unknown(model):
        model.graph.node[-1].op_type = "NoSuchThing"

    release = published(store, small, model=changed_model(small, unknown))
    with pytest.raises(ReleaseError, match="does not open"):
        fetcher.fetch("people", release)


def test_publishing_again_changes_nothing_and_leaves_no_parts(store, small, tmp_path):
    first = published(store, small)
    assert published(store, small) == first
    names = sorted(path.suffix for path in (tmp_path / "store").iterdir())
    assert names == [".json", ".onnx"]


def test_publishing_again_mends_a_file_that_was_changed(store, fetcher, small, tmp_path):
    release = published(store, small)
    (model,) = tmp_path.rglob("*.onnx")
    model.write_bytes(b"\0" + model.read_bytes()[1:])
    with pytest.raises(ReleaseError, match="publish it anew"):
        fetcher.fetch("people", release)
    assert published(store, small) == release
    fetcher.fetch("people", release)


def test_any_store_that_fsspec_knows_will_do(small):
    memory = Store("memory://releases")
    fetcher = Fetcher(store=memory, trusted=[KEY.public], most_bytes=8 * MIB)
    assert fetcher.fetch("people", published(memory, small)).z_size == 8


def test_a_store_of_an_unknown_kind_is_refused():
    with pytest.raises(SettingsError, match="GROUNDSWELL_ENCODER_STORE"):
        Store("nosuch://here")


def test_trusted_keys_are_texts_and_files(tmp_path):
    path = tmp_path / "team.pub"
    path.write_text(f"{KEY.public}\n")
    assert trusted_keys(f"{KEY.public}, {path}") == [KEY.public, KEY.public]
    assert trusted_keys("") == []
    with pytest.raises(SettingsError, match="GROUNDSWELL_TRUSTED_KEYS"):
        trusted_keys(str(tmp_path / "none.pub"))


@pytest.mark.parametrize("threads", [1, 3])
def test_onnxruntime_has_as_many_threads_as_allowed_and_burns_no_core_waiting(
    store, small, threads
):
    fetcher = Fetcher(store=store, trusted=[KEY.public], most_bytes=8 * MIB, threads=threads)
    options = fetcher.fetch("people", published(store, small))._session.get_session_options()
    assert options.intra_op_num_threads == threads
    assert options.inter_op_num_threads == 1
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


def test_encoders_run_from_several_threads_at_once(store, fetcher, small):
    encoder = fetcher.fetch("people", published(store, small))
    users = [row.profile for row in small.rows[:200]]
    due = encoder.encode(users, small.rows[0].at_ms)
    found = []

    def run():
        found.extend(encoder.encode(users, small.rows[0].at_ms) for _ in range(20))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 80
    assert all(np.array_equal(z, due) for z in found)


def test_someone_of_whom_nothing_is_known_has_the_encoding_that_the_manifest_holds(
    store, fetcher, small
):
    encoder = fetcher.fetch("people", published(store, small))
    cold = encoder.encode([Profile()], small.rows[0].at_ms)
    assert small.manifest.golden_profiles[0].profile == PlainProfile()
    assert cold[0] == pytest.approx(small.manifest.golden_profiles[0].z, abs=1e-5)
    unseen = Profile(attributes={"never": "seen", "nor": 7.0}, counts={})
    known_buckets = {i & 255 for i in small.split.train.features.tokens.ids.tolist()}
    token = hash_profiles([unseen], [0]).tokens.ids[0] & 255
    if token not in known_buckets:  # no collision: what training never saw says nothing
        assert np.array_equal(encoder.encode([unseen], small.rows[0].at_ms), cold)
