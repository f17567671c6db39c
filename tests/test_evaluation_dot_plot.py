import re
from xml.etree import ElementTree

import pytest

from rlseq2seq.evaluation.dot_plot import dot_plot

NAME = "{http://www.w3.org/2000/svg}"


def test_dots_lie_where_their_values_are() -> None:
    picture = ElementTree.fromstring(dot_plot({"a": [(-1.0, True), (1.0, False)], "b": [(3.0, True)]}, "gain"))
    ticks = {text.text: float(text.get("x", "")) for text in picture.iter(f"{NAME}text") if text.get("class") == "tick"}
    zero, one = ticks["+0"], ticks["+1"]
    circles = list(picture.iter(f"{NAME}circle"))
    dots = [(float(dot.get("cx", "")), float(dot.get("cy", "")), dot.get("class")) for dot in circles]
    values = [(x - zero) / (one - zero) for x, _, _ in dots]
    assert values == pytest.approx([-1, 1, 3], abs=0.01)
    assert dots[0][1] == dots[1][1] < dots[2][1]
    assert [kind for _, _, kind in dots] == ["dot sure", "dot", "dot sure"]
    means = [path.get("d", "") for path in picture.iter(f"{NAME}path") if path.get("class") == "mean"]
    assert [float(re.findall(r"M([\d.]+)", path)[0]) for path in means] == pytest.approx([zero, dots[2][0]], abs=0.1)


@pytest.mark.parametrize("values", [[0.0], [5.0], [-0.003, 0.004], [12.0, 47.0], [-250.0, -100.0]])
def test_everything_is_in_the_picture(values: list[float]) -> None:
    picture = ElementTree.fromstring(dot_plot({"row": [(value, False) for value in values]}, "title"))
    width = float(picture.get("viewBox", "").split()[2])
    places = [float(dot.get("cx", "")) for dot in picture.iter(f"{NAME}circle")]
    ticks = [float(text.get("x", "")) for text in picture.iter(f"{NAME}text") if text.get("class") == "tick"]
    assert len(places) == len(values) and 2 <= len(ticks) <= 9
    assert 0 < min(ticks) <= min(places) and max(places) <= max(ticks) < width


def test_names_are_escaped_and_both_modes_have_colours() -> None:
    text = dot_plot({"a < b & c": [(1.0, True)], "none": []}, "<title>")
    labels = [node.text for node in ElementTree.fromstring(text).iter(f"{NAME}text")]
    assert {"a < b & c", "none", "<title>"} <= set(labels)
    light, dark = text.split("@media (prefers-color-scheme: dark)")
    for kind in (".dot", ".sure", ".mean", ".grid", "text"):
        assert kind in light and kind in dark


def test_no_value_is_an_error() -> None:
    with pytest.raises(ValueError, match="needs a value"):
        dot_plot({"a": []}, "title")
