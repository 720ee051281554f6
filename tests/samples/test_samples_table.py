"""Each mistake that people make in a table has its own sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medgraft.errors import BadData, BadTable
from medgraft.samples.dataset import Columns, DataSet, read_samples


@pytest.fixture
def make(tmp_path: Path):
    """Write a table and empty files for the images it should find, and read it."""

    def write(text: str | bytes, *, files: int = 6, columns: Columns | None = None, **options) -> DataSet:
        for number in range(files):
            (tmp_path / f"{number}.png").touch()
        table = tmp_path / "labels.csv"
        table.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
        return read_samples(table, columns=columns, **options)

    return write


def labels(dataset: DataSet) -> list[str | None]:
    return [sample.label for sample in dataset.samples]


def noted(dataset: DataSet, *words: str) -> bool:
    return any(all(word in note for word in words) for note in dataset.notes)


def test_a_plain_table(make, tmp_path):
    dataset = make("path,label,patient,split,sex\n0.png,sick,p1,train,F\n1.png,well,p2,test,M\n", files=2)
    assert dataset.layout == "table"
    assert dataset.notes == ()
    first = dataset.samples[0]
    assert (first.key, first.label, first.patient, first.split) == ("0.png", "sick", "p1", "train")
    assert first.image.path == tmp_path / "0.png"
    assert first.covariates == {"sex": "F"}


def test_byte_order_mark_is_tolerated_and_said(make):
    dataset = make(b"\xef\xbb\xbfpath,label\r\n0.png,a\r\n1.png,b\r\n")
    assert labels(dataset) == ["a", "b"]
    assert noted(dataset, "byte order mark")


def test_utf16_of_a_spreadsheet(make):
    dataset = make("path\tlabel\n0.png\tgesund\n1.png\tKnoten größer\n".encode("utf-16"))
    assert labels(dataset) == ["gesund", "Knoten größer"]
    assert noted(dataset, "UTF-16")


def test_windows_text_is_read_and_said(make):
    dataset = make("path,label\n0.png,müde\n1.png,wach\n".encode("cp1252"))
    assert labels(dataset) == ["müde", "wach"]
    assert noted(dataset, "row 2", "cp1252")


def test_semicolons(make):
    dataset = make("path;label;age\n0.png;a;61,5\n1.png;b;70,25\n")
    assert labels(dataset) == ["a", "b"]
    assert [s.covariates["age"] for s in dataset.samples] == ["61.5", "70.25"]
    assert noted(dataset, "semicolons")
    assert noted(dataset, "decimal commas", "'age'")


def test_the_sep_line_of_excel(make):
    dataset = make("sep=;\npath;label\n0.png;a\n1.png;b\n")
    assert labels(dataset) == ["a", "b"]


def test_tabs(make):
    assert labels(make("path\tlabel\n0.png\ta, b\n1.png\tc\n")) == ["a, b", "c"]


def test_quoted_commas_quotes_and_line_breaks(make):
    dataset = make('path,label,note\n0.png,a,"left, ""upper""\nlobe"\n1.png,b,\n')
    assert dataset.samples[0].covariates["note"] == 'left, "upper"\nlobe'
    assert labels(dataset) == ["a", "b"]


def test_an_open_quote_is_refused_with_its_row(make):
    with pytest.raises(BadTable, match=r"row 3 .*quotation mark"):
        make('path,label\n0.png,a\n1.png,"b\n2.png,c\n')


def test_decimal_comma_in_the_label(make):
    dataset = make('path,label\n0.png,"0,5"\n1.png,"1,25"\n2.png,2\n')
    assert labels(dataset) == ["0.5", "1.25", "2"]
    assert noted(dataset, "decimal commas", "'0,5'")


def test_a_comma_that_may_part_thousands_is_refused(make):
    with pytest.raises(BadTable, match="row 2: '1,250' .* decimal comma or thousands"):
        make("path;label\n0.png;1,250\n1.png;2,375\n")


def test_an_unquoted_decimal_comma_gives_a_hint(make):
    with pytest.raises(BadTable, match="row 2 has 3 cells, the header has 2.*decimal comma"):
        make("path,label\n0.png,0,5\n1.png,1,5\n")


def test_a_short_row_is_noted(make):
    dataset = make("path,label,age,sex\n0.png,a,61,F\n1.png,b,70\n")
    assert dataset.samples[1].covariates["sex"] == ""
    assert noted(dataset, "rows 3 have fewer cells")


def test_missing_files_within_the_limit_are_left_out(make):
    rows = "".join(f"{number}.png,{'ab'[number % 2]}\n" for number in range(20))
    dataset = make(f"path,label\n{rows}gone.png,a\n", files=20)
    assert len(dataset.samples) == 20
    assert [problem.path for problem in dataset.problems] == ["gone.png"]
    assert "row 22" in dataset.problems[0].reason
    assert noted(dataset, "1 files in the table are missing", "row 22: gone.png")


def test_too_many_missing_files_list_five_and_the_count(make):
    rows = "".join(f"{number}.png,a\n" for number in range(10))
    with pytest.raises(BadData) as caught:
        make(f"path,label\n{rows}", files=3)
    text = str(caught.value)
    assert "7 of 10 files in the table are missing" in text
    assert "row 5: 3.png" in text
    assert "row 9: 7.png" in text
    assert "8.png" not in text
    assert "and 2 more" in text


def test_limit_bad_decides_about_missing_files(make):
    text = "path,label\n0.png,a\n1.png,b\nx.png,a\ny.png,a\n"
    with pytest.raises(BadData, match="2 of 4"):
        make(text, limit_bad=25)
    assert len(make(text, limit_bad=50).samples) == 2
    with pytest.raises(BadData, match="1 of 3"):
        make("path,label\n0.png,a\n1.png,b\nx.png,a\n", limit_bad=0)


def test_a_path_that_differs_by_capitals_gives_a_hint(make):
    with pytest.raises(BadData, match=r"'0\.PNG', the file is '0\.png': capital letters matter"):
        make("path,label\n0.PNG,a\n1.PNG,b\n")


def test_files_that_lie_in_a_folder_are_found_for_the_hint(make, tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "p.png").touch()
    (tmp_path / "images" / "q.png").touch()
    with pytest.raises(BadData, match=r"'p\.png' was found as 'images/p\.png'"):
        make("path,label\np.png,a\nq.png,b\n")


def test_a_path_without_ending_finds_the_one_file(make):
    dataset = make("image_id,label\n0,a\n1,b\n")
    assert [s.image.path.name for s in dataset.samples] == ["0.png", "1.png"]
    assert noted(dataset, "no file ending")


def test_files_that_are_not_in_the_table_are_noted(make):
    dataset = make("path,label\n0.png,a\n1.png,b\n", files=4)
    assert noted(dataset, "2 images in the folder are not in the table", "2.png, 3.png")


def test_a_row_twice_is_dropped(make):
    dataset = make("path,label\n0.png,a\n1.png,b\n0.png,a\n")
    assert labels(dataset) == ["a", "b"]
    assert noted(dataset, "1 rows repeat an earlier row", "rows 4")


def test_rows_that_disagree_about_an_image_are_refused(make):
    with pytest.raises(BadTable, match="rows 2 and 4 name the same image with different labels: 'a' and 'b'"):
        make("path,label\n0.png,a\n1.png,b\n0.png,b\n")


@pytest.mark.parametrize("spelling", ["./0.png", "../{here}/0.png", "{whole}/0.png"])
def test_the_same_file_by_two_spellings_is_one_image(make, tmp_path, spelling):
    other = spelling.format(here=tmp_path.name, whole=tmp_path)
    with pytest.raises(BadTable, match="rows 2 and 3 name the same image"):
        make(f"path,label\n0.png,a\n{other},b\n1.png,a\n")


def test_a_space_at_the_end_of_a_label_is_taken_off(make):
    dataset = make("path,label\n0.png,sick \n1.png,sick\n2.png,well\n")
    assert labels(dataset) == ["sick", "sick", "well"]
    assert noted(dataset, "spaces at their ends", "rows 2")


@pytest.mark.parametrize(("one", "other"), [("Sick", "sick"), ("lung  cancer", "lung cancer"), ("ﬁbrosis", "fibrosis")])
def test_labels_that_differ_by_case_or_inner_space_are_refused_with_counts(make, one, other):
    with pytest.raises(BadTable) as caught:
        make(f"path,label\n0.png,{one}\n1.png,{other}\n2.png,{other}\n3.png,well\n")
    assert f"{one!r} (1 times)" in str(caught.value)
    assert f"Write all of them as {other!r}" in str(caught.value)


@pytest.mark.parametrize("nothing", ["", "NaN", "nan", "N/A", "null", "<NA>"])
def test_no_label_leaves_the_row_unlabelled(make, nothing):
    dataset = make(f"path,label\n0.png,a\n1.png,{nothing}\n2.png,b\n")
    assert labels(dataset) == ["a", None, "b"]
    assert noted(dataset, "1 rows have no label", "rows 3")


def test_none_is_a_class(make):
    assert labels(make("path,label\n0.png,none\n1.png,mild\n")) == ["none", "mild"]


def test_numbers_with_point_zero_are_whole(make):
    dataset = make("path,label\n0.png,0.0\n1.png,\n2.png,1.0\n")
    assert labels(dataset) == ["0", None, "1"]


def test_a_rare_near_miss_of_a_class_is_noted(make):
    rows = "".join(f"{number}.png,{'pneumonia' if number < 20 else 'normal'}\n" for number in range(39))
    dataset = make(f"path,label\n{rows}39.png,pnuemonia\n", files=40)
    assert noted(dataset, "'pnuemonia' occurs 1 times", "'pneumonia' mistyped")


def test_scientific_ids_are_refused(make):
    with pytest.raises(BadTable, match=r"changed by a spreadsheet, such as '1\.23E\+05' \(rows 3\)"):
        make("path,label,patient\n0.png,a,77\n1.png,b,1.23E+05\n")


def test_lost_leading_zeros_are_refused(make):
    with pytest.raises(BadTable, match=r"'007' \(row 2\) and '7' \(row 3\) look like one patient"):
        make("path,label,patient\n0.png,a,007\n1.png,b,7\n")


def test_ids_that_became_floats_are_mended(make):
    dataset = make("path,label,patient\n0.png,a,102.0\n1.png,b,102\n2.png,b,\n")
    assert [s.patient for s in dataset.samples] == ["102", "102", None]
    assert noted(dataset, "without the .0")
    assert noted(dataset, "1 rows have no patient")


def test_ids_that_differ_by_case_are_refused(make):
    with pytest.raises(BadTable, match="'P1' and 'p1'"):
        make("path,label,patient\n0.png,a,P1\n1.png,b,p1\n")


def test_ids_that_became_dates_are_noted(make):
    dataset = make("path,label,patient\n0.png,a,MARC1\n1.png,b,01-Mar\n2.png,b,SEPA2\n")
    assert noted(dataset, "dates among other words", "'01-Mar'", "rows 3")


def test_a_mistyped_column_option_names_the_near_one(make):
    with pytest.raises(BadTable, match=r"column 'lable' is not there\. Did you mean 'label'\?"):
        make("path,label\n0.png,a\n1.png,b\n", columns=Columns(label="lable"))


def test_a_mistyped_label_column_is_asked_about(make):
    with pytest.raises(BadTable, match=r"no column 'label'; did you mean 'lable'\?.*--label-column lable"):
        make("path,lable\n0.png,a\n1.png,b\n")


def test_no_path_column_lists_the_columns(make):
    with pytest.raises(BadTable, match=r"no column names the image files.*The columns are number, diagnosis"):
        make("number,diagnosis\n0,a\n1,b\n")


def test_columns_by_option(make):
    text = "path,label,kind,who,use\n0.png,x,a,p1,train\n1.png,x,b,p2,test\n"
    dataset = make(text, columns=Columns(label="kind", patient="who", split="use"))
    assert [(s.label, s.patient, s.split) for s in dataset.samples] == [("a", "p1", "train"), ("b", "p2", "test")]
    assert dataset.samples[0].covariates == {"label": "x"}
    assert dataset.label_column == "kind"


def test_none_reads_no_column(make):
    dataset = make("path,label,split\n0.png,a,odd\n1.png,b,even\n", columns=Columns(split="none"))
    assert not dataset.has_splits


def test_two_columns_of_one_name_are_refused(make):
    with pytest.raises(BadTable, match="two columns are named 'label'"):
        make("path,label,label\n0.png,a,b\n")


def test_an_unnamed_column_is_left_out(make):
    dataset = make(",path,label\n0,0.png,a\n1,1.png,b\n")
    assert dataset.samples[0].covariates == {}
    assert noted(dataset, "column 1 has no name")


def test_unknown_split_words_are_refused(make):
    with pytest.raises(BadTable, match=r"unknown splits: 'trian' \(rows 3\)"):
        make("path,label,split\n0.png,a,train\n1.png,b,trian\n2.png,b,test\n")


def test_a_fold_column_with_numbers_is_no_split(make):
    dataset = make("path,label,fold\n0.png,a,1\n1.png,b,2\n")
    assert not dataset.has_splits
    assert dataset.samples[0].covariates == {"fold": "1"}


def test_usual_words_for_splits(make):
    dataset = make("path,label,split\n0.png,a,Training\n1.png,b,VALID\n2.png,b,testing\n")
    assert [s.split for s in dataset.samples] == ["train", "val", "test"]


def test_splits_only_partly_filled_are_refused(make):
    with pytest.raises(BadTable, match=r"empty in 1 of 3 rows \(rows 4\)"):
        make("path,label,split\n0.png,a,train\n1.png,b,test\n2.png,b,\n")


def test_paths_out_of_the_folder_are_allowed_and_noted(tmp_path):
    (tmp_path / "a.png").touch()
    (tmp_path / "tables").mkdir()
    table = tmp_path / "tables" / "labels.csv"
    table.write_text(f"path,label\n../a.png,a\n{tmp_path / 'b.png'},b\n")
    (tmp_path / "b.png").touch()
    dataset = read_samples(table)
    assert [sample.key for sample in dataset.samples] == ["../a.png", "../b.png"]
    assert noted(dataset, "1 paths lead out of the table's folder")
    assert noted(dataset, "1 paths are absolute")


def test_frames_and_rows_of_arrays_are_images(make, tmp_path):
    np.savez(tmp_path / "set.npz", scans=np.zeros((3, 4, 4), np.uint8), other=np.zeros(1))
    (tmp_path / "odd#1").touch()
    rows = ["0.png#2,a", "sub\\c.gif#0,b", "set.npz/scans#1,a", "odd#1,b", "1.png,a"]
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "c.gif").touch()
    dataset = make("\n".join(["path,label", *rows]))
    places = [(sample.image.path.name, sample.image.index) for sample in dataset.samples]
    assert places == [("0.png", 2), ("c.gif", 0), ("scans", 1), ("odd#1", None), ("1.png", None)]
    assert [sample.key for sample in dataset.samples] == ["0.png#2", "sub/c.gif#0", "set.npz/scans#1", "odd#1", "1.png"]


def test_backslashes(make, tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.png").touch()
    dataset = make("path,label\nsub\\a.png,a\n0.png,b\n")
    assert dataset.samples[0].key == "sub/a.png"
    assert noted(dataset, "backslashes")


def test_several_labels_and_none(make):
    dataset = make("path,label\n0.png,a|b\n1.png,\n2.png,b | a| b\n3.png,NaN\n")
    assert labels(dataset) == ["a|b", "", "b|a", None]
    assert dataset.target_kind()[0] == "several"


def test_a_list_with_commas_is_noted(make):
    dataset = make('path,label\n0.png,"effusion, mass"\n1.png,mass\n')
    assert noted(dataset, "'effusion, mass' looks like a list")


def test_a_spreadsheet_file_is_refused(make):
    with pytest.raises(BadTable, match="no text table.*CSV UTF-8"):
        make(b"PK\x03\x04\x14\x00\x06\x00rest of an xlsx")


@pytest.mark.parametrize("text", ["", "path,label\n", "path,label\n\n\n"])
def test_empty_tables_are_refused(make, text):
    with pytest.raises(BadTable, match="empty|no rows"):
        make(text)


def test_an_empty_path_is_refused(make):
    with pytest.raises(BadTable, match="row 3 has no path"):
        make("path,label\n0.png,a\n ,b\n")


@pytest.mark.parametrize(
    ("column", "values", "kind"),
    [
        ("label", ["a", "b", "c"], "classes"),
        ("label", ["0", "1", "0"], "classes"),
        ("grade", ["0", "1", "2"], "grades"),
        ("severity", ["0", "1", "1"], "classes"),
        ("label", ["0", "1", "2"], "classes"),
        ("grade", ["1", "3", "5"], "classes"),
        ("score", ["0.5", "1.5", "2.25"], "numbers"),
        ("label", ["a|b", "a", ""], "several"),
    ],
)
def test_what_the_labels_are(make, column, values, kind):
    rows = "".join(f"{number}.png,{value}\n" for number, value in enumerate(values))
    found, why = make(f"path,{column}\n{rows}").target_kind()
    assert found == kind
    assert why


def test_many_whole_numbers_are_numbers(make):
    rows = "".join(f"{number}.png,{number}\n" for number in range(40))
    assert make(f"path,label\n{rows}", files=40).target_kind()[0] == "numbers"


def test_one_class_is_refused_as_a_target(make):
    with pytest.raises(BadData, match="every sample has the same label, 'a'"):
        make("path,label\n0.png,a\n1.png,a\n").target_kind()


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("bccd", 364),
        ("brain_tumor_mri", 694),
        ("chase_db1", 28),
        ("covid_cxr", 1124),
        ("covid_cxr_seg", 100),
        ("cxr_pneumonia_624", 624),
        ("dicom_io", 429),
        ("dsb2018_nuclei", 230),
        ("ham10000_sub", 1329),
        ("hippocampus_msd", 260),
        ("nifti_io", 30),
        ("odir5k_sub", 1200),
    ],
)
def test_real_tables_are_read(shared, name, count):
    table = shared(f"data/{name}/manifest.csv")
    dataset = read_samples(table)
    assert len(dataset.samples) == count
    assert len({sample.key for sample in dataset.samples}) == count
    assert not [problem for problem in dataset.problems if not problem.part]
