"""The repositories that rows must never come from, for SWE-bench and its kin are made of them.

Told by name, by the history of forks that events give, and by the first commits that all clones of them share.
"""

from collections.abc import Iterable, Mapping

BENCHMARKS: Mapping[str, tuple[str, ...]] = {
    "SWE-bench": (
        "astropy/astropy", "django/django", "matplotlib/matplotlib", "mwaskom/seaborn", "pallets/flask",
        "psf/requests", "pydata/xarray", "pylint-dev/pylint", "pytest-dev/pytest", "scikit-learn/scikit-learn",
        "sphinx-doc/sphinx", "sympy/sympy",
    ),
    "names that they had before": (
        "kennethreitz/requests", "mitsuhiko/flask", "pycqa/astroid", "pycqa/pylint", "requests/requests",
        "6to5/6to5", "akaszynski/pyvista", "alanmcruickshank/sqlfluff", "antirez/redis", "apache/incubator-druid",
        "apache/lucene-solr", "bbatsov/rubocop", "carbon-design-system/carbon-components",
        "charliermarsh/ruff", "chjj/marked", "cppformat/cppformat", "darcymason/pydicom", "developit/preact",
        "druid-io/druid", "fabpot/php-cs-fixer", "facebook/immutable-js", "friendsofphp/php-cs-fixer",
        "ibm/carbon-components", "immutable-js-oss/immutable-js", "isagalaev/highlight.js", "jlongster/prettier",
        "krausefx/fastlane", "leaverou/prism", "llk/scratch-gui", "lmccart/p5.js", "mholt/caddy", "mojombo/jekyll",
        "mzabriskie/axios", "netflix/rxjava", "nnnick/chart.js", "openlayers/ol3", "rubocop-hq/rubocop",
        "rzwitserloot/lombok", "spf13/hugo", "stedolan/jq", "stympy/faker", "tkh44/emotion",
        "vuejs/vue-next",
    ),
    "SWE-bench dev": (
        "marshmallow-code/marshmallow", "pvlib/pvlib-python", "pydicom/pydicom", "pylint-dev/astroid",
        "pyvista/pyvista", "sqlfluff/sqlfluff",
    ),
    "SWE-bench Multilingual": (
        "apache/druid", "apache/lucene", "astral-sh/ruff", "axios/axios", "babel/babel", "briannesbitt/carbon",
        "burntsushi/ripgrep", "caddyserver/caddy", "facebook/docusaurus", "faker-ruby/faker", "fastlane/fastlane",
        "fluent/fluentd", "fmtlib/fmt", "gin-gonic/gin", "gohugoio/hugo", "google/gson", "hashicorp/terraform",
        "immutable-js/immutable-js", "javaparser/javaparser", "jekyll/jekyll", "jordansissel/fpm", "jqlang/jq",
        "laravel/framework", "micropython/micropython", "mrdoob/three.js", "nlohmann/json", "nushell/nushell",
        "php-cs-fixer/php-cs-fixer", "phpoffice/phpspreadsheet", "preactjs/preact", "projectlombok/lombok",
        "prometheus/prometheus", "reactivex/rxjava", "redis/redis", "rubocop/rubocop", "sharkdp/bat",
        "tokio-rs/axum", "tokio-rs/tokio", "uutils/coreutils", "valkey-io/valkey", "vuejs/core",
    ),
    "SWE-bench Multimodal": (
        "alibaba-fusion/next", "automattic/wp-calypso", "bpmn-io/bpmn-js", "carbon-design-system/carbon",
        "chartjs/chart.js", "cypress-io/cypress", "diegomura/react-pdf", "emotion-js/emotion", "eslint/eslint",
        "googlechrome/lighthouse", "grommet/grommet", "highlightjs/highlight.js", "markedjs/marked",
        "openlayers/openlayers", "plotly/plotly.js", "prettier/prettier", "prismjs/prism", "processing/p5.js",
        "quarto-dev/quarto-cli", "scratchfoundation/scratch-gui",
    ),
}  # fmt: skip
NAMES = frozenset(name for names in BENCHMARKS.values() for name in names)

# First commits of some of them; those of matplotlib and scikit-learn are not known here.
ROOTS = frozenset(
    {
        "03ac1a4cb269188ffef9adc7a7d896c91946731a",  # astropy
        "d5b68f2fbddb8587ab8fe56e3069d81821adf222",
        "d6ded0e91bcdd2a8f7a221f6a5552a33fe545359",  # django
        "36dd99374a1d6857af7652a9fb832a712a066e16",  # seaborn
        "33850c0ebd23ae615e6823993d441f46d80b1ff0",  # flask
        "e7615cbc6b4af5985c4e0d4848a426e2d35f79c3",  # requests
        "1edf5101afba0965cb814c548afc22bc3cecb205",  # xarray or pylint, with the three below
        "4becf6f9e596b45401680c4947e2d92c953d5e08",
        "136e2ac0b26753196b7a1cfd5ba2efbdf7cad81f",
        "f6202cb597237e5ad78904771bcbc03e01f39b27",
        "6b135c83be8cef769dbc860a4706a95603d01d09",  # pytest
        "5992a8ef21424d7571305a8d7e2a3431ee7e1e23",
        "6219bccc477caba671e7c4a3a92a6626b33d5006",  # sphinx
        "9d3fa8b4d4963c059c139f3860b8cc1d611adbae",  # sympy
        "99b21ff58ad2e2ba83172512d7f513a7c37e50c3",
    }
)
_SHORT_NAMES = frozenset(name.rpartition("/")[2] for name in NAMES)


def is_benchmark(repo: str) -> bool:
    """Tell whether a repository is one of a benchmark, by its name."""
    return repo.lower() in NAMES


def is_benchmark_fork(repo: str, *, origins: Iterable[str], said: bool, roots: Iterable[str]) -> bool:
    """Tell whether a repository is a fork of one: by the origins that events name, or by a first commit.

    `said` is that an event calls it a fork of an unknown repository; then the same short name is enough.
    """
    by_name = said and repo.rpartition("/")[2].lower() in _SHORT_NAMES
    return by_name or any(map(is_benchmark, origins)) or not ROOTS.isdisjoint(roots)
