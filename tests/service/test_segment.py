"""POST /segment over real connections: what comes back is what the predictor gives, and what is refused gets one sentence."""

import base64
import gzip
import threading
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import unquote

import httpx
import msgspec
import numpy as np
import pytest
import SimpleITK as sitk

from tests.helpers.model import GEOMETRY, make_model, make_model_2d, write_images
from tests.helpers.service import LARGEST, running, service_of
from tests.helpers.tiny import configuration
from unetrpp.inference.case_features import feature_names
from unetrpp.inference.expected_dice import DiceModel, FoldCases, Regression
from unetrpp.inference.predictor import Predictor
from unetrpp.io.images import Volume, read_label, write_image
from unetrpp.networks.design import unet_architecture
from unetrpp.service.segmenter import Segmenter, ServedSegmentation


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("model"), folds=1)


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    write_images(folder, 1)
    return folder / "case_0_0000.nii.gz"


@pytest.fixture(scope="module")
def service(model, tmp_path_factory):
    return service_of(model, tmp_path_factory.mktemp("service"))


@pytest.fixture(scope="module")
def client(service):
    with running(service) as client:
        yield client


@pytest.fixture(autouse=True)
def nothing_is_kept(service):
    """On disk, after any of these tests."""
    yield
    assert list(service.folder.iterdir()) == []
    assert service.line.present == 0


def sent(client, scan, **given):
    """The image in a form."""
    return client.post("/segment", files=[("file", (scan.name, scan.read_bytes()))], **given)


def decoded(response) -> ServedSegmentation:
    assert response.status_code == 200
    assert response.headers["cache-control"] == "no-store"
    return msgspec.json.decode(response.content, type=ServedSegmentation)


def test_the_answer_is_what_the_predictor_gives(client, model, scan, tmp_path):
    found, expected = decoded(sent(client, scan)), Predictor(model, device="cpu", mirroring=False)(scan)
    (tmp_path / found.name).write_bytes(base64.b64decode(found.segmentation))
    label = read_label(tmp_path / found.name)
    np.testing.assert_array_equal(label.array[0], expected.array)
    assert found.name == "case_0_segmentation.nii.gz"
    assert label.geometry.shape_zyx == found.geometry.shape_zyx == GEOMETRY.shape_zyx
    ml = (expected.array == 1).sum() * np.prod(GEOMETRY.spacing_zyx_mm) / 1000
    assert found.volumes_ml == pytest.approx({"ball": ml}, rel=1e-6)
    assert found.labels == {"background": 0, "ball": 1}
    assert (found.expected_dice, found.why_no_expected_dice) == ({}, "the model was not calibrated")
    assert found.page == ""


def test_bytes_in_and_a_file_out(client, scan):
    found = client.post("/segment?name=case_0.nii.gz&answer=file", content=scan.read_bytes())
    assert found.status_code == 200
    assert found.headers["content-disposition"] == "attachment; filename*=UTF-8''case_0_segmentation.nii.gz"
    assert found.content == base64.b64decode(decoded(sent(client, scan)).segmentation)


@pytest.mark.parametrize("name", ["肝 7.nii.gz", "Müller.nii.gz", "x" * 300 + ".nii.gz", ".nii.gz", "a_0000.NII.GZ"])
def test_names_of_every_kind(client, scan, name):
    content = scan.read_bytes()
    found = decoded(client.post("/segment", files=[("file", (name, content))]))
    stem = {"肝 7": "肝_7", "Müller": "Müller", "": "image", "a_0000": "a"}.get(name[:-7], "x" * 100)
    assert found.name == f"{stem}_segmentation.nii.gz"
    file = client.post("/segment", params={"name": name, "answer": "file"}, content=content)
    assert file.status_code == 200
    assert unquote(file.headers["content-disposition"]).endswith(f"''{found.name}")


def test_warnings_and_the_page_are_those_of_predict(client, scan, tmp_path):
    image = sitk.ReadImage(str(scan))
    image.SetSpacing((3.0, 3.0, 3.0))
    sitk.WriteImage(image, str(tmp_path / "thick.mha"))
    found = decoded(sent(client, tmp_path / "thick.mha", params={"answer": "page"}))
    assert any(text.startswith("spacing along z is 3 mm, training cases had 1 mm") for text in found.warnings)
    assert found.page.lstrip().startswith("<!doctype html>")
    assert found.warnings[0] in found.page


def test_the_expected_dice_of_a_calibrated_model(client, service, model, scan):
    """Every fold was fitted; the model is not really calibrated, which needs a training."""
    count = len(feature_names(1, mirrored=False))
    zeros, ones = (0.0,) * count, (1.0,) * count
    regression = Regression(
        centre=zeros, scale=ones, lowest=(-9.0,) * count, highest=(9.0,) * count, weights=ones, intercept=0.5
    )
    folds = {"0": FoldCases(mean=zeros, parts=(0,) * 12, residuals=tuple(np.linspace(-1, 1, 12).tolist()))}
    known = ({"ball": DiceModel(regressions=(regression,), folds=folds, always_there=True)}, "")
    predictor, own = service.segmenter.ensemble.first, Predictor(model, device="cpu", mirroring=False)
    before = predictor.why_no_expected_dice
    predictor.__dict__["_dice_models"] = own.__dict__["_dice_models"] = known
    try:
        found = decoded(sent(client, scan))
    finally:
        predictor.__dict__["_dice_models"] = ({}, before)
    assert found.expected_dice == own(scan).expected_dice
    assert found.expected_dice["ball"] is not None
    assert found.why_no_expected_dice == ""


def test_photographs_come_back_in_their_format(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (40, 30, 3)).astype(np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(pixels, isVector=True), str(tmp_path / "skin.png"))
    with running(service_of(make_model_2d(tmp_path), tmp_path / "service")) as client:
        found = decoded(sent(client, tmp_path / "skin.png"))
    assert found.name == "skin_segmentation.png"
    assert base64.b64decode(found.segmentation).startswith(b"\x89PNG")
    assert found.volumes_ml == {}
    assert 0 <= found.areas_pixels["ball"] <= 1200


def test_one_file_for_each_channel(tmp_path):
    plan = configuration()
    preprocessing = msgspec.structs.replace(plan.preprocessing, normalization=plan.preprocessing.normalization * 2)
    architecture = unet_architecture(2, 2, (8, 16, 16), [(2, 2, 2)], kernels=[(3, 3, 3)] * 2, width=0.25)
    two = msgspec.structs.replace(plan, preprocessing=preprocessing, architecture=architecture)
    model = make_model(tmp_path, 1, two, channels=("T1", "T2"))
    volumes = write_images(tmp_path / "images", 2)
    files = sorted((tmp_path / "images").iterdir())
    form = [("file", (file.name, file.read_bytes())) for file in files]
    predictor = Predictor(model, device="cpu", mirroring=False)
    with running(service_of(model, tmp_path / "service")) as client:
        for step in (1, -1):
            found = decoded(client.post("/segment", files=form[::step]))
            (tmp_path / "found.nii.gz").write_bytes(base64.b64decode(found.segmentation))
            both = Volume(np.concatenate([volume.array for volume in volumes[::step]]), GEOMETRY)
            np.testing.assert_array_equal(read_label(tmp_path / "found.nii.gz").array[0], predictor(both).array)
        three = client.post("/segment", files=[*form, form[0]])
    assert three.status_code == 400
    assert three.json()["error"].startswith("3 files for a model with 2 channels (T1, T2)")


def nan_image(folder):
    array = np.full((1, *GEOMETRY.shape_zyx), np.nan, np.float32)
    write_image(folder / "nan.nii.gz", Volume(array, GEOMETRY))
    return (folder / "nan.nii.gz").read_bytes()


MALFORMED = {
    "no image": ("scan.nii.gz", lambda good, _: b"hello", "scan.nii.gz"),
    "not gzip": ("scan.nii", lambda good, _: good, "scan.nii"),
    "cut off": ("scan.nii.gz", lambda good, _: good[: len(good) // 2], "scan.nii.gz"),
    "damaged": ("scan.nii.gz", lambda good, _: good[:200] + bytes(200) + good[400:], "scan.nii.gz"),
    "only a header": ("scan.nii.gz", lambda good, _: gzip.compress(gzip.decompress(good)[:352]), "scan.nii.gz"),
    "not finite": ("scan.nii.gz", lambda _, folder: nan_image(folder), "holds voxels that are NaN or infinite"),
    "another format": ("scan.png", lambda good, _: good, "scan.png"),
    "nothing": ("scan.nii.gz", lambda *_: b"", "scan.nii.gz"),
    "a program": ("run.exe", lambda good, _: good, "run.exe has none of the supported endings"),
    "a path": ("../../etc/scan.txt", lambda good, _: good, "scan.txt has none of the supported endings"),
    "markup": ("<b>scan</b>.nii.gz", lambda *_: b"hello", "b_.nii.gz"),
}


@pytest.mark.parametrize("defect", MALFORMED)
def test_a_malformed_upload_gets_one_sentence(client, scan, tmp_path, defect):
    name, make, said = MALFORMED[defect]
    content = make(scan.read_bytes(), tmp_path)
    for response in (
        client.post("/segment", files=[("file", (name, content))]),
        client.post("/segment", params={"name": name}, content=content),
    ):
        assert response.status_code == 400, response.text
        sentence = response.json()["error"]
        assert said in sentence
        assert len(sentence.splitlines()) == 1
        assert not {"/tmp", "Traceback", "image_0000", ".unetrpp"} & set(sentence.split("/"))
        assert str(tmp_path.parent) not in sentence
        assert "image_0000" not in sentence


MHA = "ObjectType = Image\nNDims = 3\nDimSize = 16 16 8\nElementType = MET_UCHAR\nElementDataFile = {}\n"
NRRD = "NRRD0004\ntype: uchar\ndimension: 3\nsizes: 16 16 8\nencoding: raw\ndata file: {}\n\n"


@pytest.mark.parametrize(("ending", "header"), [(".mha", MHA), (".nrrd", NRRD)])
@pytest.mark.parametrize(
    "names", ["{}", "LIST\n{}", "../{}", "image_0000.mha", ".", "{}:=x", "x%d 1 3", "%999999999d 1 3", "list 2\n{}"]
)
def test_no_other_file_of_the_machine_is_looked_for(client, tmp_path, monkeypatch, ending, header, names):
    """Whether it is there or not, the answer is the same, before anything else sees the header."""
    monkeypatch.setattr("unetrpp.io.readers.itk.open_header", None)
    monkeypatch.setattr("unetrpp.io.readers.detached.require_files", None)
    secret = tmp_path / "secret.txt"
    secret.write_bytes(b"secret" * 1000)
    for file in (secret, tmp_path / "absent", tmp_path):
        content = header.format(names.format(file)).encode()
        response = client.post("/segment", params={"name": f"scan{ending}", "answer": "page"}, content=content)
        assert response.status_code == 400
        sentence = f"scan{ending} has its voxels in another file; save the image as one file and send that"
        assert response.json() == {"error": sentence}


@pytest.mark.parametrize("name", ["scan.mhd", "scan.nhdr", "scan.HDR"])
def test_headers_alone_are_not_taken(client, name):
    files = [("file", (name, b"x")), ("file", ("scan.raw", b"x"))]
    for given in ({"params": {"name": name}, "content": b"x"}, {"files": files}):
        response = client.post("/segment", **given)
        assert response.status_code == 400
        said = "is a header with its voxels in another file; save the image as one file, such as .nii.gz"
        assert response.json() == {"error": f"{name} {said}"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"content": b"x"}, "the image has no name"),
        ({"content": b"x", "params": {"name": "a.nii.gz", "answer": "pdf"}}, "answer is 'pdf'; it must be one of"),
        ({"data": {"a": "b"}, "headers": {"content-type": "multipart/form-data; boundary=x"}}, "the form"),
        ({"content": b"x", "headers": {"content-type": "multipart/form-data"}}, "the form cannot be read"),
        ({"files": [("file", ("", b"x"))]}, "the form"),
        ({"files": [("file", ("a.nii.gz", b"x"))] * 17}, "the form cannot be read (Too many files"),
    ],
)
def test_a_malformed_request_gets_one_sentence(client, given, said):
    response = client.post("/segment", **given)
    assert response.status_code == 400
    assert said in response.json()["error"]


def test_another_method_and_another_address(client):
    assert client.get("/segment").status_code == 405
    assert client.get("/images").status_code == 404


def test_a_large_upload_is_refused_whether_it_says_so_or_not(client):
    content = bytes(LARGEST + 1)
    for given in (
        {"params": {"name": "a.nii"}, "content": content},
        {"params": {"name": "a.nii"}, "content": iter([content[:1000], content[1000:]])},  # no Content-Length
        {"files": [("file", ("a.nii", content))]},
    ):
        response = client.post("/segment", **given)
        assert response.status_code == 413
        assert response.json()["error"].startswith("the upload has more than the 1 MB that this service takes; ")


def test_a_small_file_with_a_large_image_is_refused(client, tmp_path):
    image = sitk.Image([300, 300, 300], sitk.sitkUInt8)
    sitk.WriteImage(image, str(tmp_path / "zeros.nii.gz"), useCompression=True)
    assert (tmp_path / "zeros.nii.gz").stat().st_size < LARGEST / 10
    response = sent(client, tmp_path / "zeros.nii.gz")
    assert response.status_code == 413
    assert response.json()["error"].startswith("the image has 103 MB in memory, and this service takes 1 MB; crop it")


def test_a_small_image_that_becomes_large_for_the_network_is_refused(client, tmp_path):
    """Its header gives centimetres where the model works on millimetres."""
    image = sitk.Image([20, 20, 20], sitk.sitkUInt8)
    image.SetSpacing([30.0, 30.0, 30.0])
    sitk.WriteImage(image, str(tmp_path / "coarse.nii.gz"))
    response = sent(client, tmp_path / "coarse.nii.gz")
    assert response.status_code == 413
    assert (
        "at the spacing of the network, and this service takes 8 MB; crop it, correct its spacing"
        in response.json()["error"]
    )


def test_the_answer_names_the_weights_that_made_it(client, service, model, scan):
    """Also where the folder has been trained again since the service began."""
    made_by = service.segmenter.ensemble.first.digest
    path = model / "fold_0" / "checkpoint_final.pt"
    before = path.read_bytes()
    path.write_bytes(b"another training")
    try:
        assert decoded(sent(client, scan)).settings.members[0].model_hash == made_by
    finally:
        path.write_bytes(before)


def test_a_folder_that_the_system_cleaned_is_made_again(client, service, scan):
    service.folder.rmdir()
    assert sent(client, scan).status_code == 200


def test_a_prediction_that_fails_inside_is_500_and_says_what(client, service, scan, monkeypatch, caplog):
    def broken(*_, **__):
        raise RuntimeError("an operator failed")

    monkeypatch.setattr(service.segmenter.ensemble.first.window, "slabs", broken)
    response = sent(client, scan)
    assert response.status_code == 500
    assert "an operator failed" in response.json()["error"]
    monkeypatch.undo()
    monkeypatch.setattr("unetrpp.service.segmenter.run_folder", broken)
    assert sent(client, scan).status_code == 500
    assert "case_0" not in caplog.text


def test_eight_at_once_are_all_answered(client, scan):
    alone = decoded(sent(client, scan)).segmentation
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: decoded(sent(client, scan)).segmentation, range(8)))
    assert answers == [alone] * 8


class Slow(Segmenter):
    """The same segmenter, which waits until it is told to go on."""

    def __init__(self, segmenter):
        vars(self).update(vars(segmenter))
        self.begun, self.go_on = threading.Event(), threading.Event()

    def __call__(self, upload, folder, *, page=False):
        self.begun.set()
        assert self.go_on.wait(300)
        return super().__call__(upload, folder, page=page)


def test_a_full_line_is_told_when_to_come_again(service, scan, tmp_path):
    full = service_of(service.segmenter.model.path, tmp_path / "full", queue=1)
    full.segmenter = slow = Slow(service.segmenter)
    with running(full) as client, ThreadPoolExecutor(2) as threads:
        first = threads.submit(sent, client, scan)
        assert slow.begun.wait(300)
        second = threads.submit(sent, client, scan)
        while full.line.present < 2:
            assert not second.done()
        refused = sent(client, scan)
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.json()["error"].startswith("1 request waits already; send it again in ")
        assert client.get("/health").json()["present"] == 2  # answered while an image is computed
        slow.go_on.set()
        assert (first.result().status_code, second.result().status_code) == (200, 200)
        assert sent(client, scan).status_code == 200


def test_a_client_that_is_gone_is_not_computed(service, scan, tmp_path):
    left = service_of(service.segmenter.model.path, tmp_path / "left")
    left.segmenter = slow = Slow(service.segmenter)
    with running(left) as client, ThreadPoolExecutor(1) as threads:
        first = threads.submit(sent, client, scan)
        assert slow.begun.wait(300)
        with pytest.raises(httpx.ReadTimeout):
            sent(client, scan, timeout=2)
        slow.begun.clear()
        slow.go_on.set()
        assert first.result().status_code == 200
        while left.line.present:
            pass
        assert not slow.begun.is_set()
        assert list(left.folder.iterdir()) == []
