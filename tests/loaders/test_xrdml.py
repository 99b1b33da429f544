from __future__ import annotations

import numpy as np
import pytest
from fuzzing import only_operando_errors

from operando.contract import LoaderError, Quality, canonical, faults
from operando.loaders.xrdml import claims, load

SCAN = """<scan appendNumber="0" mode="Continuous" scanAxis="Gonio" status="{status}"><header><startTimeStamp>{start}</startTimeStamp>
<endTimeStamp>{end}</endTimeStamp><source><instrumentControlSoftware version="7">LAB</instrumentControlSoftware></source></header><dataPoints>
<positions axis="2Theta" unit="deg">{positions}</positions><positions axis="Chi" unit="deg"><commonPosition>1.5</commonPosition></positions>
<commonCountingTime unit="seconds">2.5</commonCountingTime>{more}<{kind} unit="counts">{values}</{kind}></dataPoints></scan>"""
FILE = """\ufeff<?xml version="1.0"?>{doctype}
<xrdMeasurements xmlns="http://www.xrdml.com/XRDMeasurement/2.3"><sample type="x"><id>S1</id></sample><xrdMeasurement measurementType="Scan">
<usedWavelength intended="K-Alpha 1"><kAlpha1 unit="Angstrom">1.5405980</kAlpha1><kAlpha2 unit="Angstrom">1.5444260</kAlpha2>
<ratioKAlpha2KAlpha1>0.5000</ratioKAlpha2KAlpha1></usedWavelength>{scans}</xrdMeasurement></xrdMeasurements>"""


def scan(**over) -> str:
    fields = {
        "status": "Completed",
        "start": "2020-11-06T18:00:00+00:00",
        "end": "2020-11-06T18:10:00+00:00",
        "positions": "<startPosition>10.0</startPosition><endPosition>12.0</endPosition>",
        "more": "",
        "kind": "counts",
        "values": "10 20 30 40 50",
    }
    return SCAN.format(**{**fields, **over})


def write(path, *scans: str, doctype: str = "", encoding: str = "utf-8"):
    path.write_bytes(FILE.format(scans="".join(scans), doctype=doctype).encode(encoding))
    return path


def sound(ds) -> bool:
    return [f for f in faults(canonical(ds), as_written=True) if "attribute 'loader" not in f and "'options'" not in f] == []


def test_one_scan(tmp_path):
    ds = load(write(tmp_path / "a.xrdml", scan()))
    np.testing.assert_allclose(ds.two_theta, [10, 10.5, 11, 11.5, 12])
    np.testing.assert_allclose(ds.q, 4 * np.pi * np.sin(np.radians(ds.two_theta.values) / 2) / 1.540598)
    assert ds.intensity.values.tolist() == [[10, 20, 30, 40, 50]]
    assert ds.intensity.dtype == np.int64
    assert str(ds.time.values[0]) == "2020-11-06T18:05:00.000000000"
    assert (ds.exposure.values, ds.counting_time.values, ds.motor_chi.values) == ([600.0], [2.5], [1.5])
    assert ds.attrs["timezone_source"] == "file"
    assert (ds.attrs["wavelength"], ds.attrs["wavelength_k_alpha_2"], ds.attrs["ratio_k_alpha_2"]) == (1.540598, 1.544426, 0.5)
    assert claims(tmp_path / "a.xrdml") == "PANalytical XRDML 2.3"
    assert sound(ds)


def test_several_scans_are_frames(tmp_path):
    later = {"start": "2020-11-06T18:10:10+00:00", "end": "2020-11-06T18:20:10+00:00"}
    ds = load(write(tmp_path / "a.xrdml", scan(), scan(**later, status="Aborted")))
    assert ds.sizes == {"time": 2, "q": 5}
    assert ds.quality.values.tolist() == [0, int(Quality.INTERRUPTED)]
    assert ds.source_index.values.tolist() == [0, 1]
    assert sound(ds)
    back = load(write(tmp_path / "b.xrdml", scan(**later), scan()))
    assert back.segment.values.tolist() == [0, 1]
    assert sound(back)


def test_another_axis_is_another_series(tmp_path):
    other = scan(positions="<listPositions>10 10.5 11 11.6 12</listPositions>", start="2020-11-06T18:20:00+00:00", end="2020-11-06T18:30:00+00:00")
    first, second = load(write(tmp_path / "a.xrdml", scan(), other, scan(start="2020-11-06T18:40:00+00:00", end="2020-11-06T18:50:00+00:00")))
    assert first.source_index.values.tolist() == [0, 2]
    np.testing.assert_allclose(second.two_theta, [10, 10.5, 11, 11.6, 12])


def test_naive_stamps_stay_naive(tmp_path):
    ds = load(write(tmp_path / "a.xrdml", scan(start="2020-11-06T18:00:00", end="2020-11-06T18:10:00")))
    assert ds.attrs["timezone_source"] == "none"
    assert str(ds.stamp.values) == "2020-11-06T18:00:00.000000000"


def test_attenuation(tmp_path):
    factors = "<beamAttenuationFactors>1 1 10 10 1</beamAttenuationFactors>"
    raw = load(write(tmp_path / "a.xrdml", scan(more=factors)))
    assert raw.intensity.values.tolist() == [[10, 20, 300, 400, 50]]
    assert raw.attenuation.values.tolist() == [[1, 1, 10, 10, 1]]
    done = load(write(tmp_path / "b.xrdml", scan(more=factors, kind="intensities")))
    assert done.intensity.values.tolist() == [[10, 20, 30, 40, 50]]


def test_counting_times_may_be_listed(tmp_path):
    text = scan().replace('<commonCountingTime unit="seconds">2.5</commonCountingTime>', '<countingTimes unit="seconds">1 1 2 2 1</countingTimes>')
    assert load(write(tmp_path / "a.xrdml", text)).counting_time.values.tolist() == [[1, 1, 2, 2, 1]]


def test_rocking_curves_are_left_out(tmp_path):
    still = scan(positions="<commonPosition>20</commonPosition>")
    assert load(write(tmp_path / "a.xrdml", still, scan())).attrs["scans_left_out"] == 1
    with pytest.raises(LoaderError, match="no scan over 2theta"):
        load(write(tmp_path / "b.xrdml", still))


def test_entities_are_refused(tmp_path):
    laughs = '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    for encoding in ("utf-8", "utf-16"):
        with pytest.raises(LoaderError, match="entities"):
            load(write(tmp_path / "a.xrdml", scan(values="&b;"), doctype=laughs, encoding=encoding))
    with pytest.raises(LoaderError, match="nested"):
        load(write(tmp_path / "b.xrdml", "<a>" * 5000 + "</a>" * 5000))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"values": "1 2 x 4 5"}, "'x' where a number"),
        ({"values": ""}, "neither counts"),
        ({"positions": "<listPositions>1 2</listPositions>"}, "another number of positions"),
        ({"end": "2020-11-06T17:00:00+00:00"}, "does not end"),
        ({"start": "yesterday"}, "ISO"),
        ({"positions": "<startPosition>10</startPosition><endPosition>400</endPosition>"}, "180"),
    ],
)
def test_bad_scans(tmp_path, change, message):
    from operando.contract import OperandoError

    with pytest.raises(OperandoError, match=message):
        load(write(tmp_path / "a.xrdml", scan(**change)))


def test_other_files_are_refused(tmp_path):
    for content, message in ((b"", "empty"), (b"<a/>", "not an XRDML"), (b"hello", "well-formed"), (b"\x00\x01\x02", "XML")):
        (tmp_path / "a.xrdml").write_bytes(content)
        with pytest.raises(LoaderError, match=message):
            load(tmp_path / "a.xrdml")
        assert claims(tmp_path / "a.xrdml") is None


def test_fuzz(tmp_path):
    raw = FILE.format(scans=scan() + scan(start="2020-11-06T18:20:00+00:00", end="2020-11-06T18:30:00+00:00"), doctype="").encode()
    assert only_operando_errors(load, tmp_path / "a.xrdml", raw, seed=1, each=40)


@pytest.mark.real_data
def test_a_series_fifteen_minutes_apart(shared_data):
    many = [load(shared_data / f"xrd1d/datalab_MIT/Scan_C{i}.xrdml") for i in (1, 3, 5, 7, 9)]
    begins = ["18:09:37", "18:39:35", "19:09:32", "19:39:29", "20:09:26"]
    for ds, begin, exposure in zip(many, begins, (881, 880, 880, 880, 881), strict=True):
        middle = np.datetime64(f"2020-11-06T{begin}", "ns") + np.timedelta64(exposure * 500, "ms")
        assert ds.time.values[0] == middle
        assert ds.exposure.values[0] == exposure
        assert ds.attrs["timezone_source"] == "file"
        assert ds.attrs["intended_wavelength"] == "K-Alpha"
        assert ds.sizes["q"] == 7181
        np.testing.assert_array_equal(ds.two_theta, many[0].two_theta)
        assert sound(ds)
    assert many[0].intensity.values[0, :5].tolist() == [374, 401, 382, 351, 398]


@pytest.mark.real_data
def test_every_measured_file_opens(shared_data):
    paths = sorted(shared_data.glob("qpa/**/*.xrdml"))
    assert len(paths) >= 20
    for path in paths:
        ds = load(path)
        assert ds.attrs["timezone_source"] == "file"
        assert ds.intensity.dtype == np.int64
        assert sound(ds)
        assert claims(path)
