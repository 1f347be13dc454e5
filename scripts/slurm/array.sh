#!/bin/bash
# Trains experiments with several seeds as an array of jobs, each as scripts/slurm/train.sh does.
# Submit it from the project's folder. Seeds vary fastest: two experiments with three seeds are tasks 0 to 5.
#
#   sbatch --array=0-5 scripts/slurm/array.sh "0 1 2" \
#       configs/experiments/diffpose_cmu_clip.yaml configs/experiments/d3dp_cmu_clip.yaml -- --trainer.max_epochs 40
#
# Runs are called EXPERIMENT_seedN; `noise2pose compare runs/*_seed*` puts them side by side.
#
#SBATCH --job-name=noise2pose
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=1
#SBATCH --cpus-per-task=4
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=USR1@300

set -u
trap : TERM

read -ra seeds <<<"$1"
shift
experiments=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
    experiments+=("$1")
    shift
done
[ $# -gt 0 ] && shift

task=$SLURM_ARRAY_TASK_ID
if [ "$task" -ge $((${#experiments[@]} * ${#seeds[@]})) ]; then
    echo "error: task $task of ${#experiments[@]} experiments with ${#seeds[@]} seeds: give --array=0-$((${#experiments[@]} * ${#seeds[@]} - 1))" >&2
    exit 2
fi
experiment=${experiments[$((task / ${#seeds[@]}))]}
seed=${seeds[$((task % ${#seeds[@]}))]}
bash scripts/slurm/train.sh -c "$experiment" "$@" --name "$(basename "$experiment" .yaml)_seed$seed" --seed_everything "$seed"
