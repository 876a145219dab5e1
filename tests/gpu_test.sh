#!/bin/sh
# What `make gpu-test` runs once the kernels are built: tests/gpu_test.sh FOLDER. The exit code is 1 when one part fails.
out=$1 failed=0

part() {  # part NAME COMMAND...: runs it, keeps what it prints, and says how it ended
  name=$1; shift
  if "$@" >"$out/$name.txt" 2>&1; then echo "$name: OK"; else echo "$name: FAILED, see $out/$name.txt"; failed=1; fi
  tail -n 1 "$out/$name.txt"
}

part doctor python3 -m kdl doctor
part op-table python3 -m pytest -q -p no:cacheprovider tests/test_optable.py tests/test_optim.py -k "cuda"
part conformance python3 -m tests.simt.golden record cuda  # writes tests/golden/ptx.npz
cp tests/golden/ptx.npz "$out"
part train python3 -m kdl train lenet5 --device cuda --out "$out/lenet5"
if command -v compute-sanitizer >/dev/null; then
  for tool in memcheck racecheck initcheck synccheck; do
    part "$tool" compute-sanitizer --tool "$tool" --error-exitcode 1 python3 -m pytest -q -p no:cacheprovider \
      tests/test_optable.py -k "cuda and float32 and (conv2d or max_pool2d or softmax or matmul or gelu or batch_norm)"
  done
else
  echo "compute-sanitizer is not installed: its four checks are left out"
fi
exit $failed
