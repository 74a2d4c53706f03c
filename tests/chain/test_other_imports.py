"""Which file uses which in JavaScript, TypeScript and Go."""

import json

import pytest

from agentless_mini.chain.other_imports import LARGEST, used_by


def used(path: str, text: str, **others: str) -> set[str]:
    """Return what a file uses in a tree of `others`: `a__b_ts` stands for a/b.ts."""
    return set(used_by({path: text, **{named(name): said for name, said in others.items()}})[path])


def named(name: str) -> str:
    return name.replace("__", "/").replace("_", ".")


@pytest.mark.parametrize(
    "line",
    [
        "import cart from './shop/cart'",
        "import cart, { total as t } from \"./shop/cart.ts\"",
        "import type { Total } from './shop/cart.js'",
        "import {\n  total,\n  type Total,\n} from './shop/cart'",
        "import './shop/cart'",
        "const cart = require('./shop/cart')",
        "const { total } = require(\n  './shop/cart'\n)",
        "const cart = await import(/* webpackChunkName: 'x' */ './shop/cart')",
        "vi.mock('./shop/cart', () => ({}))",
        "const actual = await vi.importActual<typeof import('x')>('./shop/cart')",
        "export * from './shop/cart'",
        "export { total } from './shop/cart'",
        "import { total } from './shop'",
        "import { sum } from './shop'",
        "import { deep } from './shop'",
        "const { total } = require('./shop/')",
    ],
)  # fmt: skip
def test_what_a_script_imports_is_found_where_it_is_defined(line: str) -> None:
    found = used(
        "a.test.ts",
        line,
        shop__index_ts="export * from './other'\nexport { total, total as sum } from './cart'\nexport * from './more'",
        shop__cart_ts="export function total() {}\nexport const deep = 1\n",
        shop__other_ts="export * from './other'\nexport const other = 1\n",
        shop__more_ts="export * from './cart'\n",
    )
    assert "shop/cart.ts" in found or line.endswith("('./shop/')")
    assert "shop/index.ts" not in found


@pytest.mark.parametrize(
    "line",
    [
        "export const a = './shop/cart'",
        "import { total } from 'shop-cart'",
        "import fs from 'fs'",
        "const text = 'from ./shop/cart'",
        "import x from '../shop/cart'",
        "import x from '@acme/'",
    ],
)
def test_what_only_looks_like_an_import_is_none(line: str) -> None:
    assert used("a.js", line, shop__cart_js="", package_json="[]", x_json="{") == set()


def test_a_path_that_no_file_of_a_package_has_is_nobody_s_and_a_broken_manifest_says_nothing() -> None:
    tree = {"package.json": '{"name": "shop"}', "x/package.json": "{", "a.js": "import 'shop/none'", "index.js": ""}
    assert used_by(tree)["a.js"] == set()


def test_names_that_files_hand_on_in_a_circle_or_nowhere_are_the_index_s() -> None:
    circle = {"a_js": "export { x } from './b'", "b_js": "export { x } from './a'"}
    assert used("c.js", "import { x, y } from './a'", **circle) == {"a.js"}
    stars = {"a_js": "export * from './b'", "b_js": "export * from './a'"}
    assert used("c.js", "import { x } from './a'", **stars) == {"a.js"}
    assert used("c.js", "export { default } from './d'\nimport { e } from './d'", d_js="export default 1") == {"d.js"}


@pytest.mark.parametrize(
    ("said", "manifest", "files"),
    [
        ("@acme/cart", {"main": "dist/index.js"}, ["packages/cart/src/index.ts"]),
        ("@acme/cart", {"source": "./lib/cart.mts"}, ["packages/cart/lib/cart.mts"]),
        ("@acme/cart", {"exports": {".": {"import": ["./a.mjs", "./b.mjs"]}}}, ["packages/cart/b.mjs"]),
        ("@acme/cart", {"exports": "./a.mjs"}, ["packages/cart/a.mjs"]),
        ("@acme/cart/tax", {}, ["packages/cart/src/tax.tsx"]),
        ("@acme/cart/tax", {"exports": {"./tax": "./lib/rates.js"}}, ["packages/cart/lib/rates.ts"]),
        ("@acme/cart/tax.js", {}, ["packages/cart/tax.ts"]),
        ("@acme/cart", {}, ["packages/cart/lib/index.cjs"]),
    ],
)
def test_a_package_of_the_tree_is_found_by_its_name(said: str, manifest: dict[str, object], files: list[str]) -> None:
    tree = {
        "packages/till/test/a.js": f"require('{said}')",
        "packages/cart/package.json": json.dumps({"name": "@acme/cart", **manifest}),
        **dict.fromkeys(files, ""),
    }
    assert set(used_by(tree)["packages/till/test/a.js"]) == set(files)


@pytest.mark.parametrize(
    ("path", "config"),
    [
        ("tsconfig.json", '{"compilerOptions": {"paths": {"@/*": ["gone/*", "src/*"]}}} // so'),
        ("jsconfig.base.json", '{\n// "a": \n"compilerOptions": {"baseUrl": "src", "paths": {"@/*": ["./*"],},},}'),
        ("tsconfig.json", '{"compilerOptions": {"paths": {"@/cart": ["./src/cart.ts"]}}}'),
        ("package.json", '{"imports": {"@/*": {"default": "./src/*.js"}}}'),
    ],
)
def test_what_stands_for_a_path_is_followed(path: str, config: str) -> None:
    tree = {path: config, "src/cart.ts": "", "test/a.ts": "import x from '@/cart'", "tsconfig.x.json": "{}"}
    assert used_by(tree)["test/a.ts"] == {"src/cart.ts"}


def test_a_base_folder_counts_below_its_configuration_alone() -> None:
    tree = {
        "one/tsconfig.json": '{"compilerOptions": {"baseUrl": "."}}',
        "one/cart/index.ts": "",
        "one/a.ts": "import 'cart'",
        "b.ts": "import 'cart'",
    }
    assert used_by(tree) == {"one/cart/index.ts": set(), "one/a.ts": {"one/cart/index.ts"}, "b.ts": set()}


def test_a_folder_above_and_the_top_are_found() -> None:
    assert used("test/a.js", "require('..')\nrequire('../')", index_js="") == {"index.js"}
    assert used("test/a.js", "require('..')", package_json='{"main": "./lib/x"}', lib__x_js="") == {"lib/x.js"}


def test_a_bundle_is_not_read() -> None:
    assert "b.js" not in used_by({"b.js": "x" * LARGEST, "a.js": "import './b'"})


def test_a_go_test_uses_the_files_of_its_package_and_of_imported_ones_that_define_what_it_says() -> None:
    tree = {
        "go.mod": "module example.com/shop/v2 // the shop\n\ngo 1.22\n",
        "tool/go.mod": "module example.com/tool\n",
        "tool/x.go": "package tool\n\nfunc Run() {}\n",
        "cart/cart.go": "package cart\n\nfunc Total() int { return 0 }\n",
        "cart/tax.go": "package cart\n\ntype Tax struct{}\n\nfunc (t *Tax) Rate() int { return 1 }\n",
        "cart/other.go": "package cart\n\nvar other = 1\n",
        "cart/cart_test.go": "package cart\n\nfunc TestTotal(t *testing.T) { Total(); helper() }\n",
        "cart/help_test.go": "package cart\n\nfunc helper() {}\n",
        "main_test.go": 'package main\n\nimport (\n\t"fmt"\n\tc "example.com/shop/v2/cart"\n)\n\nvar x = c.Tax{}\n',
        "top.go": "package main\n\nconst Top = 1\n",
        "go.sum": "",
        "tool/y.go": 'package tool\n\nimport main "example.com/shop/v2"\n\nvar y = main.Top\n',
    }
    found = used_by(tree)
    assert found["cart/cart_test.go"] == {"cart/cart.go"}
    assert found["main_test.go"] == {"cart/tax.go"}
    assert found["tool/y.go"] == {"top.go"}
    assert found["tool/x.go"] == set()
