"""A Dask cluster of SLURM jobs for `--executor` (pip install "unetrpp[dask]" dask-jobqueue); ends with Ctrl-C.

Start it on a node that the jobs can reach, and in another shell give the address that it prints:

    python examples/slurm/dask_cluster.py --jobs 4
    unetrpp_plan_and_preprocess Liver --executor dask=tcp://HOST:8786

Each job has as many workers as cores, of one thread each. What else your cluster wants, dask_jobqueue.SLURMCluster takes.
"""

import argparse
import signal

from dask_jobqueue import SLURMCluster

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--jobs", type=int, default=1, help="SLURM jobs (default: 1)")
parser.add_argument("--cores", type=int, default=8, help="cores of each job (default: 8)")
parser.add_argument("--memory", default="64GB", help="memory of each job (default: 64GB)")
parser.add_argument("--time", default="04:00:00", help="time of each job (default: 04:00:00)")
parser.add_argument("--partition", help="of the jobs (default: the cluster's)")
parser.add_argument("--port", type=int, default=8786, help="of the scheduler (default: 8786)")

if __name__ == "__main__":
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with SLURMCluster(
        cores=given.cores,
        processes=given.cores,
        memory=given.memory,
        walltime=given.time,
        queue=given.partition,
        scheduler_options={"port": given.port, "dashboard_address": None},
    ) as cluster:
        cluster.scale(jobs=given.jobs)
        print(f"--executor dask={cluster.scheduler_address}", flush=True)
        try:
            signal.pause()
        except KeyboardInterrupt:
            print("the jobs are cancelled")
