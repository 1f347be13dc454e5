#!/bin/bash
# Trains one run as a job of SLURM, which goes on by itself after pre-emption and after its time is up.
# Submit it from the project's folder, with the options of `noise2pose train fit`:
#
#   sbatch --nodes=1 --gpus-per-node=4 --ntasks-per-node=4 scripts/slurm/train.sh \
#       -c configs/experiments/diffpose_paper_cmu_frame.yaml -c configs/loggers/wandb.yaml --name my_run
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
trap : TERM # SLURM may send it to this shell too, and kills the training with it if it ends first

srun --kill-on-bad-exit=1 noise2pose train fit "$@" -c configs/trainers/slurm.yaml --ckpt_path auto
status=$?

# SIGUSR1 came before the time was up, and the training was saved (128 + 10). After SIGTERM, SLURM itself decides
# whether the job comes back (pre-empted) or not (scancel).
if [ "$status" -eq 138 ]; then
    job=${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}
    echo "the time is up: job $job is put into the queue again"
    scontrol requeue "$job"
fi
exit "$status"
