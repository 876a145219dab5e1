"""`import kdl` is light: what is heavy is loaded when it is first needed."""
import subprocess
import sys

HEAVY = ("cupy", "matplotlib", "numba", "onnx", "scipy", "sklearn", "torch", "tqdm")


def loaded_after(code):
    script = f"import sys\n{code}\nprint(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_import_loads_nothing_heavy():
    assert not loaded_after("import kdl").intersection(HEAVY)


def test_building_a_network_loads_nothing_heavy():
    code = "import kdl; from kdl.models import LeNet5; kdl.optim.Adam(LeNet5().parameters()).zero_grad()"
    assert not loaded_after(code).intersection(HEAVY)


def test_the_names_of_torch_survive_the_import_of_every_module():
    """`kdl.tensor` is a function although kdl/tensor.py is a module."""
    script = "import kdl, kdl.tensor, kdl.autograd, kdl.random; assert kdl.tensor([1.0]).item() == 1.0"
    subprocess.run([sys.executable, "-c", script], check=True)
