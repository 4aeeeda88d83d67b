#!/usr/bin/env bash
# One study on the nodes of one Slurm job: sbatch deploy/slurm.sh SPEC [launch options…]
# Without Slurm it runs on this machine alone. A job that is cut off: submit it again, the study goes on where it stands.
#SBATCH --job-name=oraclegap
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --gpus-per-task=1
#SBATCH --time=24:00:00
#SBATCH --signal=INT@120
set -euo pipefail

ROOT="${ORACLEGAP_ROOT:-$PWD/runs}"      # a folder that every node sees
PORT="${ORACLEGAP_PORT:-6379}"
NODES="${SLURM_JOB_NUM_NODES:-1}"
if [[ -n "${SLURM_JOB_NODELIST:-}" ]]; then
    HEAD="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)"
    ADDRESS="$(getent ahostsv4 "$HEAD" | awk 'NR == 1 { print $1 }'):$PORT"
    # since Slurm 22.05 srun does not take over --cpus-per-task
    START=(srun --ntasks="$NODES" --ntasks-per-node=1 --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}")
else
    ADDRESS="127.0.0.1:$PORT"
    START=()
fi
# A token for this job alone: whoever reaches a cluster without one can run programs on it.
export RAY_AUTH_MODE=token
RAY_AUTH_TOKEN="${RAY_AUTH_TOKEN:-$(python3 -c 'import secrets; print(secrets.token_hex(32))')}"
export RAY_AUTH_TOKEN
export RAY_USAGE_STATS_ENABLED=0

# Two minutes before the end Slurm sends SIGINT to the job's steps (above). Whether the launch then ends in order or is killed
# before it could: every finished epoch is on the disk.
"${START[@]}" ray symmetric-run --address "$ADDRESS" --min-nodes "$NODES" \
    ${SLURM_CPUS_PER_TASK:+--num-cpus="$SLURM_CPUS_PER_TASK"} -- \
    oraclegap launch "$@" --root "$ROOT" -o resources.address="\"$ADDRESS\""
