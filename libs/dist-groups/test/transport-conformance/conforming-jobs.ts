// Groups whose ranks are in the processes of a job under mpirun: the world of `openWorld`, one world after the other in
// the same job.

import { DrivenJob, type JobOptions, type Settled as JobSettled } from "../mpi/driven-job.ts";
import {
  ConformingGroup,
  FOR_EVER_MS,
  type GroupOptions,
  HEAP_BYTES,
  type Settled,
  type Subject,
} from "./conforming-group.ts";

/** How ranks are spread over processes. */
export interface JobKind extends Omit<JobOptions, "processes"> {
  readonly name: string;
  /** Processes for a group of `size` ranks. */
  processes(size: number): number;
}

/** Groups in jobs. Jobs last until {@link JobSubject.end}. */
export class JobSubject implements Subject {
  readonly name: string;
  readonly #kind: JobKind;
  readonly #jobs = new Map<number, DrivenJob>();

  constructor(kind: JobKind) {
    this.name = kind.name;
    this.#kind = kind;
  }

  async open({ size, program, stagingBytes, deadlineMs = FOR_EVER_MS }: GroupOptions): Promise<ConformingGroup> {
    const processes = this.#kind.processes(size);
    const job = this.#jobs.get(processes) ?? new DrivenJob({ ...this.#kind, processes });
    this.#jobs.set(processes, job);
    await job.open({
      size,
      program: program.href,
      stagingBytes,
      stagedLimit: stagingBytes,
      heapBytesPerRank: HEAP_BYTES,
      deadlineMs,
    });
    return new JobGroup(job, size);
  }

  /** Ends all jobs; how each ended. */
  end(): Promise<Awaited<ReturnType<DrivenJob["end"]>>[]> {
    return Promise.all([...this.#jobs.values()].map((job) => job.end()));
  }
}

class JobGroup extends ConformingGroup {
  readonly #job: DrivenJob;
  readonly #size: number;

  constructor(job: DrivenJob, size: number) {
    super();
    this.#job = job;
    this.#size = size;
  }

  start(method: string, ...args: readonly unknown[]): Promise<Settled>[] {
    return this.#job.start(this.#size, method, args) satisfies Promise<JobSettled>[];
  }

  kill(rank: number): void {
    this.#job.kill(rank).catch(() => undefined);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#job.close();
  }
}
