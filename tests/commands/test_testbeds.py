"""What of the user's variables goes to the testbeds, and with these to the nodes of a cluster."""

from pathlib import Path

from agentless_mini.commands.benchmark import host_of
from agentless_mini.commands.config import Machine
from tests.evaluation.faked import evaluation


def test_only_what_says_where_packages_are_found_goes_to_the_testbeds(tmp_path: Path) -> None:
    told = {"PIP_INDEX_URL": "i", "https_proxy": "p", "NO_PROXY": "n", "SSL_CERT_FILE": "c", "HOME": "h"}
    secret = {"OPENAI_API_KEY": "k", "AMINI_API_KEY": "k", "HF_TOKEN": "t", "PATH": "/bin"}
    machine = Machine(tmp_path, tmp_path, {**told, **secret})
    assert host_of(evaluation(tmp_path, "http://x/v1", 1, 1).config, machine).variables == told
