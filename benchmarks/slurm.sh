#!/bin/bash
# The SLURM recipe of docs/how/search.md on a SLURM of one node: as it is, with a chief that is killed, and
# with one that ends with an error.
#
#     sudo apt-get install slurm-wlm munge                     # Debian's packages
#     sudo benchmarks/slurm.sh [.venv/bin/python]              # a minute or two (as root)
#
# SLURM's own daemons are started here with a configuration of their own, and ended. The job is the recipe,
# word for word, with the search of benchmarks/hosts.py as its search.py.
set -eu
repository=$(cd "$(dirname "$0")/.." && pwd)
python=$(realpath --no-symlinks "${1:-$repository/.venv/bin/python}")
folder=$(mktemp -d)
chmod 755 "$folder"
export SLURM_CONF=$folder/slurm.conf

daemons=()
finish() {
    scancel --quiet --user=root 2>/dev/null || true
    for daemon in "${daemons[@]}"; do kill "$daemon" 2>/dev/null || true; done
    wait 2>/dev/null || true
    rm -rf "$folder"
}
trap finish EXIT

mkdir -p /run/munge "$folder/state" "$folder/spool"
[ -e /etc/munge/munge.key ] || mungekey
chown munge: /run/munge
pgrep -x munged >/dev/null || { runuser -u munge -- munged --foreground & daemons+=($!); }
cat >"$SLURM_CONF" <<END
ClusterName=one
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmUser=root
SlurmctldPort=17817
SlurmdPort=17818
AuthType=auth/munge
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
ReturnToService=2
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
KillWait=10
NodeName=$(hostname -s) NodeAddr=127.0.0.1 CPUs=16 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
SlurmdParameters=config_overrides
END
slurmctld -D & daemons+=($!)
slurmd -D & daemons+=($!)
for _ in {1..60}; do
    [ "$(sinfo --noheader --format=%T 2>/dev/null)" = idle ] && break
    sleep 1
done

# The recipe: the first block of code after "**SLURM.**", with fewer CPUs and workers.
awk '/^\*\*SLURM\./ {found = 1} /^```/ {if (inside) exit; inside = found; next} inside' \
    "$repository/docs/how/search.md" |
    sed 's/--ntasks=6 --cpus-per-task=4/--ntasks=3 --cpus-per-task=1/; s/--ntasks=5/--ntasks=2/' >"$folder/recipe.sh"

job() { # name, arguments of hosts.py, what is done when trainings have begun
    mkdir "$folder/$1"
    cd "$folder/$1"
    cat >search.py <<END
import sys
sys.path.insert(0, "$repository/benchmarks")
import hosts
hosts.search("$folder/$1", "$2" == "--fails")
END
    PATH=$(dirname "$python"):$PATH sbatch --quiet --output=job.log "$folder/recipe.sh"
    local id began=$SECONDS
    id=$(squeue --noheader --format=%i)
    until [ "$(wc -l 2>/dev/null <begun.txt || echo 0)" -ge 8 ]; do
        if [ -z "$(squeue --noheader)" ] || ((SECONDS - began > 300)); then
            cat job.log
            return 1
        fi
        sleep 0.2
    done
    eval "$3"
    while [ -n "$(squeue --noheader --states=all --jobs="$id" --format=%T | grep -E 'RUNNING|PENDING|COMPLETING')" ]; do
        if ((SECONDS - began > 300)); then
            echo "$1: did not end"
            cat job.log
            return 1
        fi
        sleep 0.2
    done
    echo "$1: $(cut -d' ' -f3 begun.txt | sort -u | wc -l) trials trained," \
        "$(wc -l <begun.txt) trainings, $((SECONDS - began)) s," \
        "$(scontrol show job "$id" | grep -oE 'JobState=\S+|ExitCode=\S+' | xargs)"
}

chief() { # the chief's process, of this job
    for process in $(pgrep -f "python search.py"); do
        variables=$(tr '\0' '\n' <"/proc/$process/environ")
        if grep -qx KERASTUNER_TUNER_ID=chief <<<"$variables" && grep -qx "SLURM_JOB_ID=$id" <<<"$variables"; then
            echo "$process"
        fi
    done
}

job undisturbed "" true
job chief-killed "" 'kill -9 $(chief)'
job chief-with-an-error --fails true
