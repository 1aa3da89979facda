"""For each verb and option: commands that show that the option reaches something.

`tests/cli/test_every_option.py` runs them and compares; it says what lies in the folder that they run in.
"""

from __future__ import annotations

_SYNTH = "synth --out out/drawn --scale tiny --workers 1"
_STARTER = "starter --out out/x.safetensors --people 3 --images 2 --steps 1"
_CLUSTER = "cluster features.npy --out out/l.csv --modality modality.txt --k1 8 --k2 3"
_TRAIN = "train tiny --data own --out out/run schedule.stage2_epochs=0 {words}"
_IMPORT = "import theirs.pth --layout sysu --out out/imported"
_EMBED = "embed run --out out/e.npy --device cpu"
_SEARCH = (
    "search calibrated own/infrared/0-3-0.png --modality visible --images own/visible --device cpu "
    "--false-match-rate 0.1"
)
_EMBEDDED = f"embed calibrated --out out/e.parquet --device cpu ; {_SEARCH}"
_ONNX = "export calibrated --format onnx --out calibrated/model.onnx"
_CALIBRATE = "calibrate calibrated --data strangers.csv --device cpu"
_ABLATE = "ablate tiny --data listed.csv --out out/ab --dry-run {words}"
_FIGURES = "figures run second --out out/figures --device cpu"
_SERVE = "serve people --port {port}"
_ADD = "gallery add people own/visible --modality visible --device cpu"
_LIST = "gallery list people --json"
_FILM = "gallery add films walk.mp4 --modality visible --boxes walk.txt --model shipped.safetensors --device cpu"
_FRAMES = "gallery list films --json"
_FIND = "gallery search people photos/night/n1.png --modality infrared --device cpu"
_KNOWN = (
    "gallery add known own/visible --modality visible --model calibrated --device cpu ; "
    "gallery search known own/infrared/0-3-0.png --modality infrared --device cpu"
)
_REMOVE = "gallery remove people --source * --device cpu --yes"
_LIKE = "gallery remove people --like photos/night/n1.png --modality infrared --similarity 0.99 --device cpu --yes"
_EXPIRE = "gallery expire people --older-than 200w"
_PARQUET = "gallery export people --out out/people.parquet"
_ROW = "{id}"
_ASK = "report run --queries own/visible/0-1-0.png --device cpu"
_STRANGER = "report run --queries strangers/0-1-0.png --device cpu"
_BESIDE = "report run second --out out/beside.html"
_STUDY = "study run study.yaml {words} schedule.stage2_epochs=0 --data own --trials 1 --out out/study"
_MADE = f"{_STUDY} ; study"

#: The options of a filter, and a value that not every image of the gallery satisfies.
_FILTERS = {
    "--camera": "yard",
    "--only": "infrared",
    "--source": "*night*",
    "--since": "2023-01-01",
    "--until": "2023-01-01",
    "--track": "walker",
}


def _filtered(command: str) -> dict[str, tuple[str, str]]:
    return {option: (command, f"{command} {option} {value}") for option, value in _FILTERS.items()}


#: For each verb and option: commands, divided by `;`, and the same with the option in another way. The two must differ
#: in exit code, in what they print, or in what they write to `out` and `run`. `{id}` is an image of the gallery,
#: `{port}` and `{other}` are free ports.
OPTIONS: dict[str, dict[str, tuple[str, str]]] = {
    "train": {
        "--data": (_TRAIN, f"{_TRAIN} --data listed.csv"),
        "--out": (_TRAIN, f"{_TRAIN} --out out/other"),
        "--recipe": (_TRAIN, f"{_TRAIN} --recipe baseline"),
        "--seed": (_TRAIN, f"{_TRAIN} --seed 1"),
        "--device": (_TRAIN, f"{_TRAIN} --device cuda:99"),
        "--resume": ("train --resume run", "train --resume nowhere"),
        "--force": (f"{_TRAIN} --out run", f"{_TRAIN} --out run --force"),
        "--quiet": (_TRAIN, f"{_TRAIN} --quiet"),
    },
    "evaluate": {
        "--data": ("evaluate run --device cpu", "evaluate run --device cpu --data nowhere"),
        "--device": ("evaluate run --data listed.csv", "evaluate run --data listed.csv --device cuda:99"),
        "--force": ("evaluate run --data leaky.csv", "evaluate run --data leaky.csv --force"),
        "--json": ("evaluate run --data listed.csv", "evaluate run --data listed.csv --json"),
    },
    "combine": {
        "--force": ("combine run run", "combine run run --force"),
        "--json": ("combine run", "combine run --json"),
    },
    "compare": {"--json": ("compare run second", "compare run second --json")},
    "verify": {
        "--data": ("verify run", "verify run --data nowhere"),
        "--device": ("verify run", "verify run --device cuda:99"),
    },
    "runs": {"--json": ("runs run", "runs run --json")},
    "study run": {
        "--data": (_STUDY, f"{_STUDY} --data nowhere"),
        "--out": (_STUDY, f"{_STUDY} --out out/other"),
        "--trials": (_STUDY, f"{_STUDY} --trials 2"),
        "--objective": (_STUDY, f"{_STUDY} --objective cycle"),
        "--validation": (f"{_STUDY} --objective oracle", f"{_STUDY} --objective oracle --validation strangers.csv"),
        "--storage": (_STUDY, f"{_STUDY} --storage sqlite:///elsewhere.db"),
        "--name": (_STUDY, f"{_STUDY} --name other"),
        "--device": (_STUDY, f"{_STUDY} --device cuda:99"),
        "--quiet": (_STUDY, f"{_STUDY} --quiet"),
    },
    "study show": {
        "--storage": (f"{_MADE} show out/study", f"{_MADE} show out/study --storage postgresql://a@127.0.0.1/b"),
        "--json": (f"{_MADE} show out/study", f"{_MADE} show out/study --json"),
    },
    "study plot": {
        "--storage": (f"{_MADE} plot out/study", f"{_MADE} plot out/study --storage postgresql://a@127.0.0.1/b"),
        "--quiet": (f"{_MADE} plot out/study", f"{_MADE} plot out/study --quiet"),
    },
    "report": {
        "--queries": ("report run --device cpu", _ASK),
        "--query-modality": (_STRANGER, f"{_STRANGER} --query-modality visible"),
        "--device": (_ASK, f"{_ASK} --device cuda:99"),
        "--out": (_BESIDE, f"{_BESIDE} --out out/other.html"),
        "--force": (f"{_BESIDE} --out there.html", f"{_BESIDE} --out there.html --force"),
        "--quiet": ("report run", "report run --quiet"),
    },
    "ablate": {
        "--data": (_ABLATE, f"{_ABLATE} --data nowhere"),
        "--out": ("ablate tiny --data listed.csv --dry-run {words}", _ABLATE),
        "--table": (_ABLATE, f"{_ABLATE} --table k"),
        "--floor": (_ABLATE, f"{_ABLATE} --floor baseline"),
        "--setting": (_ABLATE, f"{_ABLATE} --setting method.cross=0,1"),
        "--recipe": (f"{_ABLATE} --setting method.cross=0,1", f"{_ABLATE} --setting method.cross=0,1 --recipe pgm"),
        "--methods": (_ABLATE, f"{_ABLATE} --methods pgm,dcl"),
        "--both-stages": (f"{_ABLATE} --setting method.cross=0,1", f"{_ABLATE} --setting method.cross=0 --both-stages"),
        "--seeds": (_ABLATE, f"{_ABLATE} --seeds 3"),
        "--test-data": (_ABLATE, f"{_ABLATE} --test-data nowhere"),
        "--search": (_ABLATE, f"{_ABLATE} --search nothing"),
        "--entry": (_ABLATE, f"{_ABLATE} --entry pgm-hard"),
        "--jobs": (_ABLATE, f"{_ABLATE} --jobs 2"),
        "--quick": ("ablate --out out/ab --dry-run", "ablate --out out/ab --dry-run --quick"),
    },
    "figures": {
        "--out": (_FIGURES, f"{_FIGURES} --out out/others"),
        "--published": (_FIGURES, f"{_FIGURES} --published"),
        "--data": (_FIGURES, f"{_FIGURES} --data nowhere"),
        "--people": (_FIGURES, f"{_FIGURES} --people 3"),
        "--seed": (f"{_FIGURES} --people 3", f"{_FIGURES} --people 3 --seed 1"),
        "--device": (_FIGURES, f"{_FIGURES} --device cuda:99"),
        "--force": (f"{_FIGURES} ; {_FIGURES}", f"{_FIGURES} ; {_FIGURES} --force"),
        "--quiet": (_FIGURES, f"{_FIGURES} --quiet"),
    },
    "cluster": {
        "--out": (_CLUSTER, f"{_CLUSTER} --out out/m.csv"),
        "--modality": (_CLUSTER, _CLUSTER.replace("--modality modality.txt", "")),
        "--per-modality": (_CLUSTER, f"{_CLUSTER} --per-modality"),
        "--matching": (f"{_CLUSTER} --per-modality", f"{_CLUSTER} --per-modality --matching mutual"),
        "--normalise": (_CLUSTER, f"{_CLUSTER} --as-they-are"),
        "--identities": (_CLUSTER, f"{_CLUSTER} --identities people.txt"),
        "--key": ("cluster two.safetensors --out out/l.csv --key a", "cluster two.safetensors --out out/l.csv --key b"),
        "--device": (_CLUSTER, f"{_CLUSTER} --device cuda:99"),
        "--force": (f"{_CLUSTER} --out there.csv", f"{_CLUSTER} --out there.csv --force"),
        "--json": (_CLUSTER, f"{_CLUSTER} --json"),
        "--clustering": (_CLUSTER, f"{_CLUSTER} --clustering hdbscan"),
        "--outliers": (_CLUSTER, f"{_CLUSTER} --outliers both"),
        "--neighbourhood": (_CLUSTER, f"{_CLUSTER} --neighbourhood paper"),
        "--modality-balance": (f"{_CLUSTER} --k2 8", f"{_CLUSTER} --k2 8 --no-modality-balance"),
        "--balanced-neighbours": (_CLUSTER, f"{_CLUSTER} --balanced-neighbours"),
        "--balanced-order": (
            f"{_CLUSTER} --balanced-neighbours",
            f"{_CLUSTER} --balanced-neighbours --balanced-order similarity",
        ),
        "--k1": (_CLUSTER, f"{_CLUSTER} --k1 20"),
        "--k2": (_CLUSTER, f"{_CLUSTER} --k2 8"),
        "--eps": (_CLUSTER, f"{_CLUSTER} --eps 0.2"),
        "--min-samples": (_CLUSTER, f"{_CLUSTER} --min-samples 12"),
        "--resolution": (f"{_CLUSTER} --clustering community", f"{_CLUSTER} --clustering community --resolution 0.8"),
        "--search": (_CLUSTER, f"{_CLUSTER} --search approximate"),
        "--near-copies": (_CLUSTER, f"{_CLUSTER} --near-copies thin"),
        "--quiet": (_CLUSTER, f"{_CLUSTER} --quiet"),
        "--method": (_CLUSTER, f"{_CLUSTER} --method hdbscan"),
        "--match": (f"{_CLUSTER} --per-modality", f"{_CLUSTER} --per-modality --match mutual"),
    },
    "import": {
        "--layout": (_IMPORT, f"{_IMPORT} --layout regdb"),
        "--out": (_IMPORT, f"{_IMPORT} --out out/other"),
        "--data": (_IMPORT, f"{_IMPORT} --data own"),
        "--trial": (f"{_IMPORT} --layout regdb", f"{_IMPORT} --layout regdb --trial 2"),
        "--network": (_IMPORT, f"{_IMPORT} --network nowhere"),
        "--force": (f"{_IMPORT} --out run", f"{_IMPORT} --out run --force"),
        "--quiet": (_IMPORT, f"{_IMPORT} --quiet"),
    },
    "export": {
        "--out": ("export theirs --out out/x.pth", "export theirs --out out/x.safetensors"),
        "--format": ("export theirs --out out/x.pth", "export theirs --out out/x.pth --format other"),
        "--data": (f"{_ONNX} --data own", f"{_ONNX} --data nowhere"),
        "--int8": (_ONNX, f"{_ONNX} --int8"),
        "--force": ("export theirs --out there.pth", "export theirs --out there.pth --force"),
        "--quiet": ("export theirs --out out/x.pth", "export theirs --out out/x.pth --quiet"),
    },
    "embed": {
        "--out": (_EMBED, f"{_EMBED} --out out/f.npy"),
        "--data": (_EMBED, f"{_EMBED} --data nowhere"),
        "--layout": (_EMBED, f"{_EMBED} --layout sysu"),
        "--split": (f"{_EMBED} --data listed.csv", f"{_EMBED} --data listed.csv --split test"),
        "--images": (f"{_EMBED}", f"{_EMBED} --images own/visible --modality visible"),
        "--modality": (
            f"{_EMBED} --images own/visible --modality visible",
            f"{_EMBED} --images own/visible --modality infrared",
        ),
        "--device": (_EMBED, f"{_EMBED} --device cuda:99"),
        "--runtime": (_EMBED, f"{_EMBED} --runtime onnx"),  # there is no ONNX file
        "--weights": (_EMBED, f"{_EMBED} --weights start"),
        "--force": (f"{_EMBED} --out there.npy", f"{_EMBED} --out there.npy --force"),
        "--quiet": (_EMBED, f"{_EMBED} --quiet"),
    },
    "search": {
        "--modality": (_SEARCH, f"{_SEARCH} --modality infrared"),
        "--images": (_SEARCH, f"{_SEARCH} --images own/infrared"),
        "--features": (_EMBEDDED, _EMBEDDED.replace("--images own/visible", "--features out/e.parquet")),
        "--query-modality": (_SEARCH, f"{_SEARCH} --query-modality visible"),
        "--top": (_SEARCH, f"{_SEARCH} --top 2"),
        "--false-match-rate": (_SEARCH, f"{_SEARCH} --false-match-rate 0.4"),
        "--expected": (_SEARCH, f"{_SEARCH} --expected 30"),
        "--csv": (_SEARCH, f"{_SEARCH} --csv out/found.csv"),
        "--sheet": (_SEARCH, f"{_SEARCH} --sheet out/found.html"),
        "--device": (_SEARCH, f"{_SEARCH} --device cuda:99"),
        "--runtime": (_SEARCH, f"{_ONNX} ; {_SEARCH} --runtime onnx"),
        "--force": (f"{_SEARCH} --csv there.csv", f"{_SEARCH} --csv there.csv --force"),
        "--json": (_SEARCH, f"{_SEARCH} --json"),
        "--quiet": (f"{_SEARCH} --csv out/found.csv", f"{_SEARCH} --csv out/found.csv --quiet"),
    },
    "calibrate": {
        "--data": (_CALIBRATE, f"{_CALIBRATE} --data own"),
        "--measure": (_CALIBRATE, f"{_CALIBRATE} --measure"),
        "--device": (_CALIBRATE, f"{_CALIBRATE} --device cuda:99"),
        "--json": (_CALIBRATE, f"{_CALIBRATE} --json"),
        "--quiet": (_CALIBRATE, f"{_CALIBRATE} --quiet"),
    },
    "serve": {
        "--model": (_SERVE, f"{_SERVE} --model calibrated"),
        "--host": (_SERVE, f"{_SERVE} --host 0.0.0.0"),
        "--port": (_SERVE, f"{_SERVE} --port {{other}}"),
        "--tokens": (_SERVE, f"{_SERVE} --tokens tokens.json"),
        "--audit": (_SERVE, f"{_SERVE} --audit out/audit.jsonl"),
        "--false-match-rate": (_SERVE, f"{_SERVE} --false-match-rate 0.4"),
        "--largest-image": (_SERVE, f"{_SERVE} --largest-image 1"),
        "--requests-per-minute": (_SERVE, f"{_SERVE} --requests-per-minute 7"),
        "--device": (_SERVE, f"{_SERVE} --device cuda:99"),
        "--quiet": (_SERVE, f"{_SERVE} --quiet"),
    },
    "gallery add": {
        "--modality": (f"{_ADD} ; {_LIST}", f"{_ADD} --modality infrared ; {_LIST}"),
        "--model": (_ADD, f"{_ADD} --model calibrated"),
        "--camera": (f"{_ADD} ; {_LIST}", f"{_ADD} --camera hall ; {_LIST}"),
        "--time": (f"{_ADD} ; {_LIST}", f"{_ADD} --time 2021-05-01T12:00 ; {_LIST}"),
        "--track": (f"{_ADD} ; {_LIST}", f"{_ADD} --track stroller ; {_LIST}"),
        "--keep": (f"{_ADD} ; {_LIST}", f"{_ADD} --keep thumbnail ; {_LIST}"),
        "--boxes": (_FILM, _FILM.replace("--boxes walk.txt", "")),
        "--start": (f"{_FILM} ; {_FRAMES}", f"{_FILM} --start 2021-05-01T12:00 ; {_FRAMES}"),
        "--first-frame": (f"{_FILM} ; {_FRAMES}", f"{_FILM} --first-frame 0 ; {_FRAMES}"),
        "--per-track": (_FILM, f"{_FILM} --per-track 1"),
        "--per-second": (f"{_FILM} ; {_FRAMES}", f"{_FILM} --per-second 0.5 ; {_FRAMES}"),
        "--device": (_ADD, f"{_ADD} --device cuda:99"),
        "--json": (_ADD, f"{_ADD} --json"),
        "--quiet": (_ADD, f"{_ADD} --quiet"),
    },
    "gallery search": {
        "--modality": (_FIND, f"{_FIND} --modality visible"),
        "--top": (_FIND, f"{_FIND} --top 2"),
        **_filtered(_FIND),
        "--false-match-rate": (f"{_KNOWN} --false-match-rate 0.1", f"{_KNOWN} --false-match-rate 0.4"),
        "--group": (_FIND, f"{_FIND} --frames"),
        "--gap": (_FIND, f"{_FIND} --gap 52w"),
        "--rerank": (f"{_ADD} ; {_FIND} --frames --top 40", f"{_ADD} ; {_FIND} --frames --top 40 --rerank"),
        "--model": (_FIND, f"{_FIND} --model calibrated"),
        "--device": (_FIND, f"{_FIND} --device cuda:99"),
        "--json": (_FIND, f"{_FIND} --json"),
    },
    "gallery list": {
        **_filtered(_LIST),
        "--id": (_LIST, f"{_LIST} --id {_ROW}"),
        "--first": (_LIST, f"{_LIST} --first 2"),
        "--after": (_LIST, f"{_LIST} --after 2"),
        "--json": ("gallery list people", _LIST),
    },
    "gallery stats": {"--json": ("gallery stats people", "gallery stats people --json")},
    "gallery remove": {
        **_filtered(_REMOVE),
        "--id": (_REMOVE, f"{_REMOVE} --id {_ROW}"),
        "--like": (_LIKE, _REMOVE),
        "--modality": (_LIKE, f"{_LIKE} --modality visible"),
        "--similarity": (_LIKE, f"{_LIKE} --similarity -1"),
        "--yes": (_REMOVE, _REMOVE.replace("--yes", "")),
        "--model": (_LIKE, f"{_LIKE} --model calibrated"),
        "--device": (_LIKE, f"{_LIKE} --device cuda:99"),
        "--json": (_REMOVE, f"{_REMOVE} --json"),
        "--quiet": (_REMOVE, f"{_REMOVE} --quiet"),
    },
    "gallery expire": {
        "--older-than": (_EXPIRE, f"{_EXPIRE} --older-than 5000w"),
        "--json": (_EXPIRE, f"{_EXPIRE} --json"),
        "--quiet": (_EXPIRE, f"{_EXPIRE} --quiet"),
    },
    "gallery compact": {"--quiet": ("gallery compact people", "gallery compact people --quiet")},
    "gallery export": {
        "--out": (_PARQUET, f"{_PARQUET} --out out/other.parquet"),
        **_filtered(_PARQUET),
        "--map": (_PARQUET, f"{_PARQUET} --map pca"),
        "--seed": (_PARQUET, f"{_PARQUET} --seed 1"),
        "--force": (f"{_PARQUET} --out there.parquet", f"{_PARQUET} --out there.parquet --force"),
        "--quiet": (_PARQUET, f"{_PARQUET} --quiet"),
    },
    "token create": {
        "--role": ("token create desk ; token list", "token create desk --role admin ; token list"),
        "--days": ("token create desk ; token list", "token create desk --days 3 ; token list"),
        "--tokens": ("token create desk ; token list", "token create desk --tokens out/t.json ; token list"),
    },
    "token list": {
        "--tokens": ("token list", "token list --tokens nowhere.json"),
        "--json": ("token list", "token list --json"),
    },
    "token revoke": {"--tokens": ("token revoke guard", "token revoke guard --tokens nowhere.json")},
    "audit verify": {
        "--head": ("audit verify audit.jsonl", f"audit verify audit.jsonl --head {64 * '1'}"),
        "--json": ("audit verify audit.jsonl", "audit verify audit.jsonl --json"),
    },
    "check": {
        "--layout": ("check own", "check own --layout sysu"),
        "--trial": ("check regdb", "check regdb --trial 2"),
        "--decode": ("check broken", "check broken --no-decode"),
        "--json": ("check own", "check own --json"),
    },
    "synth": {
        "--out": (_SYNTH, f"{_SYNTH} --out out/other"),
        "--scale": (_SYNTH, f"{_SYNTH} --scale huge"),
        "--layout": (_SYNTH, f"{_SYNTH} --layout llcm"),
        "--seed": (_SYNTH, f"{_SYNTH} --seed 1"),
        "--gap": (_SYNTH, f"{_SYNTH} --gap 0.1"),
        "--unpaired": (_SYNTH, f"{_SYNTH} --unpaired 0.5"),
        "--generator": (_SYNTH, f"{_SYNTH} --generator 1"),
        "--held-out": (_SYNTH, f"{_SYNTH} --held-out test"),
        "--quiet": (_SYNTH, f"{_SYNTH} --quiet"),
    },
    "starter": {
        "--out": (_STARTER, f"{_STARTER} --out out/y.safetensors"),
        "--people": (_STARTER, f"{_STARTER} --people 4"),
        "--images": (_STARTER, f"{_STARTER} --images 3"),
        "--steps": (_STARTER, f"{_STARTER} --steps 2"),
        "--seed": (_STARTER, f"{_STARTER} --seed 2"),
        "--preset": (_STARTER, f"{_STARTER} --preset small.yaml"),
        "--learning-rate": (_STARTER, f"{_STARTER} --learning-rate 0.01"),
        "--device": (_STARTER, f"{_STARTER} --device cuda:99"),
        "--force": (f"{_STARTER} --out there.safetensors", f"{_STARTER} --out there.safetensors --force"),
        "--quiet": (_STARTER, f"{_STARTER} --quiet"),
    },
    "fetch-imagenet": {"--out": ("fetch-imagenet --out features.npy", "fetch-imagenet")},
    "settings": {
        "--preset": ("settings", "settings --preset tiny"),
        "--recipe": ("settings", "settings --recipe paper"),
        "--json": ("settings", "settings --json"),
        "--markdown": ("settings", "settings --markdown"),
        "--schema": ("settings", "settings --schema"),
    },
    "recipes": {
        "--against": ("recipes pclhd", "recipes pclhd --against paper"),
        "--json": ("recipes", "recipes --json"),
    },
}
#: Options that by design change no result here, and where their effect is looked at.
NO_RESULT = {
    ("evaluate", "--quiet"): "only a progress bar on a terminal",
    ("verify", "--quiet"): "only a spinner on a terminal",
    ("ablate", "--dry-run"): "tests/workflows/test_ablate.py: nothing is trained",
    ("ablate", "--quiet"): "only a progress bar, and which training begins",
    ("report", "--data"): "tests/report/test_page.py: images come from the settings unless named",
    ("synth", "--workers"): "tests/synthetic/test_write.py: the same bytes",
    ("fetch-imagenet", "--quiet"): "only the note after a download",
    ("gallery add", "--workers"): "tests/gallery/test_gallery.py: the same rows",
    ("gallery add", "--parts"): "tests/gallery/test_parts.py: files of parts are there",
    ("gallery add", "--ray-workers"): "tests/gallery/test_ray_workers.py: the same rows, embedded by others",
}
