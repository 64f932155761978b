#!/bin/bash
# Trains one fold in each task of a SLURM array. A task that runs out of time saves its state, puts itself back into the
# queue and goes on where it stopped; so does one that the scheduler preempts or whose node fails.
#
#   sbatch --array=0-4 examples/slurm/train_array.sh Liver 3d_fullres [further options of unetrpp_train]
#
# Give memory, time and partition as your cluster needs them, here or as options of sbatch.
#SBATCH --job-name=unetrpp
#SBATCH --array=0-4
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=8
#SBATCH --mem=32G
#SBATCH --time=12:00:00
#SBATCH --signal=B:TERM@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=unetrpp_%A_%a.log

if [ $# -lt 2 ]; then
    echo "usage: sbatch --array=FOLDS $0 DATASET CONFIGURATION [OPTION ...]" >&2
    exit 2
fi
case " $* " in *" --overwrite "*)
    echo "--overwrite would start again after every interruption; delete the folds first" >&2
    exit 2
esac
dataset=$1 configuration=$2
shift 2

unetrpp_train "$dataset" "$configuration" "$SLURM_ARRAY_TASK_ID" "$@" &
training=$!
trap 'kill -TERM "$training"' TERM  # SLURM signals this script alone, 300 s before the time is over

while kill -0 "$training" 2>/dev/null; do
    wait "$training"  # returns early at a signal
done
wait "$training"
code=$?
if [ "$code" -eq 130 ] || [ "$code" -eq 143 ]; then  # interrupted, and its state is saved; or before it began
    scontrol requeue "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"
fi
exit "$code"
