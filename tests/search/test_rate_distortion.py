"""The benchmark's tables: curves are read only where they reach, BD-rates only where curves meet."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from pc15.bench.exchange import compressai_results, write_compressai
from pc15.bench.points import Point
from pc15.bench.summary import (
    Table,
    bd_rates,
    bd_tables,
    choose_reference,
    gains_table,
    means_table,
    report,
    settings_table,
    tables,
)
from pc15.errors import ConfigError, UnknownNameError
from pc15.metrics import bd_overlap, pareto_front, quality_at, ssim_db

RATES = (0.125, 0.25, 0.5, 1.0)


def point(codec: str, bpp: float, quality: float, image: str = "a.png", setting: str = "1") -> Point:
    """PSNR `quality` dB, and an SSIM of a tenth as many dB."""
    similar = round(1.0 - 10 ** (-quality / 100), 6) if math.isfinite(quality) else 1.0
    return Point(image, 64, 64, codec, setting, int(bpp * 512), bpp, quality, similar, 0.5, 0.25)


def curve(codec: str, share: float = 1.0, image: str = "a.png", start: float = 20.0) -> list[Point]:
    """6 dB per doubling of the rate; `share` of the rate of others at the same quality."""
    return [point(codec, share * rate, start + 6 * i, image, str(i)) for i, rate in enumerate(RATES)]


def cells(table: Table, codec: str) -> dict[str, str]:
    row = next(row for row in table.rows if row[0] == codec)
    return dict(zip(table.header, row, strict=True))


# ---------------------------------------------------------------- curves


def test_a_front_drops_what_costs_more_for_no_gain_and_what_is_lossless() -> None:
    rates, qualities = [0.4, 0.1, 0.2, 0.3, 0.2, 0.8], [24.0, 20.0, 22.0, 21.5, 21.0, math.inf]
    assert pareto_front(rates, qualities) == ([0.1, 0.2, 0.4], [20.0, 22.0, 24.0])


def test_quality_is_linear_in_the_logarithm_of_the_rate() -> None:
    front = [0.125, 0.5], [20.0, 24.0]
    assert quality_at(*front, 0.25) == pytest.approx(22.0)
    assert math.isnan(quality_at(*front, 0.124)) and quality_at(*front, 2.0) == 24.0
    assert math.isnan(quality_at([], [], 1.0))


def test_ssim_in_decibels_is_infinite_at_one() -> None:
    assert ssim_db(0.9) == pytest.approx(10.0) and ssim_db(1.0) == math.inf


def test_overlap_is_shared_range_over_the_whole_range() -> None:
    assert bd_overlap([20, 30], [25, 40]) == pytest.approx(0.25)
    assert bd_overlap([20, 30], [31, 40]) == bd_overlap([20, 20], [20, 20]) == 0.0


# ---------------------------------------------------------------- means


def test_means_are_read_between_points_and_never_below_them() -> None:
    table = means_table([point("x", 0.1, 20.0), point("x", 0.4, 24.0)], "PSNR", rates=(0.05, 0.2, 0.4))
    assert table.rows == [["x", "n/a (0)", "22.00", "24.00"]]
    assert table.header == ["codec", "0.05", "0.2", "0.4"]


def test_a_mean_over_the_easier_pictures_says_so() -> None:
    points = [p for image in "abc" for p in curve("x", image=image)] + curve("x", share=4.0, image="hard")
    row = cells(means_table(points, "PSNR", rates=(0.125, 0.5, 1.0)), "x")
    assert row["0.125"] == "20.00 (3)" and row["0.5"] == "29.00"  # (3 * 32 + 20) / 4
    points += [p for image in "de" for p in curve("x", share=4.0, image=image)]
    assert cells(means_table(points, "PSNR", rates=(0.125,)), "x")["0.125"] == "n/a (3)"


def test_a_ladder_that_ends_early_is_marked_and_does_not_stand_for_many() -> None:
    points = [p for image in "abc" for p in curve("x", image=image)] + curve("x", share=0.5, image="easy")
    row = cells(means_table(points, "PSNR", rates=(0.5, 1.0)), "x")
    assert row["0.5"] == "33.50" and row["1"] == "38.00*"
    assert cells(means_table(points, "PSNR", rates=(2.0,)), "x")["2"] == "n/a (0)*"


def test_gains_compare_the_same_pictures() -> None:
    """Alone, y's mean looks better at 0.125 bpp, for it reaches that only with the easy picture."""
    points = [p for image, share in (("easy", 1.0), ("hard", 2.0)) for p in curve("ref", share, image)]
    points += [p for image, share in (("easy", 1.0), ("hard", 8.0)) for p in curve("y", share, image)]
    row = cells(gains_table(points, "ref", rates=(0.0625, 0.125, 1.0)), "y")
    assert row["0.0625"] == "n/a (0)" and row["0.125"].startswith("+0.00 / +0.000 (1)")
    assert row["1"].startswith("-6.00 / ") and row["1"].endswith("(2)")


def test_settings_are_averaged_with_their_count() -> None:
    points = [*curve("x", image="a"), *curve("x", image="b", start=22.0)[:2]]
    rows = settings_table(points, ["x"]).rows
    assert rows[0] == ["x", "0", "2/2", "0.1250", "21.00", "0.3832", "0.50", "0.250"]
    assert [row[2] for row in rows] == ["2/2", "2/2", "1/2", "1/2"]


# ---------------------------------------------------------------- BD-rate


def test_bd_rates_are_per_picture_then_averaged() -> None:
    shares = {"a": 0.5, "b": 0.8, "c": 0.9}
    points = [p for image, share in shares.items() for p in curve("ref", 1.0, image) + curve("new", share, image)]
    found = bd_rates(points, "new", "ref")
    for per_picture in found.values():
        percents = [bd.percent for bd in per_picture.values()]
        assert percents == pytest.approx([-50.0, -20.0, -10.0], abs=0.01)
        assert {bd.overlap for bd in per_picture.values()} == {1.0}
    whole, one = bd_tables(points, "ref")
    assert cells(whole, "new")["PSNR mean"] == "-26.7" and whole.rows[0][2] == "-20.0"
    assert [row[:3] for row in one.rows] == [
        ["a", "-50.0", "100 %"],
        ["b", "-20.0", "100 %"],
        ["c", "-10.0", "100 %"],
        ["mean", "-26.7", "100 %"],
        ["median", "-20.0", ""],
    ]


def test_the_common_range_alone_is_compared() -> None:
    """Below what both reach, the second curve is far worse; that does not count."""
    points = [*curve("ref"), point("new", 0.12, 17.0), *curve("new", 0.5)]
    bd = bd_rates(points, "new", "ref")["PSNR"]["a.png", 64, 64]
    assert bd.percent == pytest.approx(-50.0) and bd.overlap == pytest.approx(1.0)
    points += [point("new", 0.06, 14.0)]
    assert bd_rates(points, "new", "ref")["PSNR"]["a.png", 64, 64].overlap == pytest.approx(18 / 24)


def test_curves_that_hardly_meet_are_refused_listed_and_counted() -> None:
    points = [p for image in "ab" for p in curve("ref", 1.0, image)]
    points += [*curve("new", 0.5, "a"), *curve("new", 0.5, "b", start=31.0), *curve("new", 0.5, "c")]
    whole, one = bd_tables(points, "ref")
    assert cells(whole, "new")["PSNR mean"] == "-50.0" and whole.rows[0][4] == "1 of 2"
    assert [row[1:3] for row in one.rows[:2]] == [["-50.0", "100 %"], ["refused", "24 %"]]
    assert "new, PSNR: 1 of 2 refused, under 50 % overlap: b (24 %)" in whole.notes
    assert any("new, PSNR" in note for note in one.notes)


def test_one_point_or_none_but_lossless_ones_is_refused_not_an_error() -> None:
    points = [*curve("ref"), point("one", 0.2, 25.0), point("exact", 3.0, math.inf), point("exact", 4.0, math.inf)]
    for codec in ("one", "exact"):
        assert bd_rates(points, codec, "ref")["PSNR"]["a.png", 64, 64].percent is None
    assert cells(bd_tables(points, "ref")[0], "one")["PSNR mean"] == "-"
    assert "Nothing to plot" not in report(points, "ref").html()
    assert compressai_results(points, "exact")["results"]["bpp"] == []


def test_the_reference_is_the_one_asked_for_or_the_likeliest() -> None:
    points = [*curve("pc15-fast"), *curve("j2k"), *curve("jpeg"), *curve("webp")]
    assert choose_reference(points, None, []) == "jpeg"
    assert choose_reference(points, None, ["avif", "webp"]) == "webp"
    assert choose_reference(points, "j2k", ["webp"]) == "j2k"
    assert choose_reference([*curve("pc15-fast"), *curve("j2k")], None, []) == "j2k"
    assert choose_reference([*curve("pc15-fast"), *curve("pc15-oracle")], None, []) == "pc15-fast"
    assert choose_reference(curve("jpeg"), None, []) is None
    with pytest.raises(UnknownNameError, match="'jpg'; did you mean jpeg"):
        choose_reference(points, "jpg", [])
    with pytest.raises(ConfigError, match="no points of 'jpg'"):
        bd_tables(points, "jpg")


# ---------------------------------------------------------------- page and JSON


def test_results_are_in_the_layout_of_compressai(tmp_path: Path) -> None:
    points = [*curve("x", image="a"), *curve("x", image="b", start=22.0)[:3], *curve("y", image="a")]
    assert [p.name for p in write_compressai(points, tmp_path / "deep" / "rd.json")] == ["rd-x.json", "rd-y.json"]
    content = json.loads((tmp_path / "deep" / "rd-x.json").read_text())
    assert content["name"] == "x" and "2 pictures" in content["description"]
    assert content["results"]["bpp"] == [0.125, 0.25, 0.5]  # the last setting is of one picture only
    assert content["results"]["psnr-y"] == [21.0, 27.0, 33.0]
    assert set(content["results"]) == {"bpp", "psnr-y", "ssim", "encoding_time", "decoding_time"}
    assert content["results"]["encoding_time"] == [0.5, 0.5, 0.5]
    assert [p.name for p in write_compressai(curve("x"), tmp_path / "rd.json")] == ["rd.json"]


def test_the_page_holds_all_tables_and_needs_no_network() -> None:
    points = [*curve("pc15-fast", 0.7), *curve("jpeg"), *curve("<b>", 0.5)]
    html = report(points, "jpeg").html()
    for table in tables(points, "jpeg"):
        assert table.title.replace("'", "&#x27;").replace("<b>", "&lt;b&gt;") in html
    assert html.count("<svg") == 4 and "&lt;b&gt;" in html and "<b>" not in html
    assert "http" not in html and "<script" not in html


def test_one_codec_alone_has_means_and_no_comparison() -> None:
    assert [table.title for table in tables(curve("pc15-fast"), None)] == [
        "Means per setting", "Mean PSNR-Y in dB at bpp, 1 picture", "Mean SSIM-Y at bpp, 1 picture",
    ]  # fmt: skip
    assert "BD-rate" not in report(curve("pc15-fast"), None).html()
