/** What `--help` prints. */
export const HELP = `Generates text with a language model whose KV cache is sharded over ranks.

usage: bun run demo [options]

  --world N         ranks, each a worker with its share of the weights, or auto: as many, up to the cores, as are
                    fastest for this model, machine and context, which some steps of each tell (default auto)
  --dcp N           ranks that split the tokens of a KV cache among them; divides --world (default: the fewest that
                    leave no KV head stored twice; all with --kv-heads replicated; with --world auto the fastest)
  --kv-heads L      replicated: every rank keeps its tokens for all KV heads; sharded: KV heads are split over the
                    ranks, and the tokens of a head over the --dcp ranks that share it; auto (default): sharded if
                    possible
  --prompt TEXT     text to continue (default: "Psa23:1 The LORD is"); repeat it to continue several texts at once
  --prompt-file F   texts to continue, one on each line that is not empty, after those of --prompt
  --max-tokens N    tokens to generate for each text (default 96)
  --max-context N   tokens of a text to make room for, or max: as many as the model was made for, or as fit (default: as
                    many as the texts grow to)
  --plan            print what each rank will hold and whether it fits this machine, and stop; exit code 2 if not; with
                    --world auto for every number of ranks that may be chosen. Starts no rank
  --speculative     draft tokens from what a text said before and verify them in one step: the same tokens in fewer
                    steps
  --draft N         most tokens drafted at a time, below --max-tokens (default 4); with --speculative
  --prefill-chunk N compute prompts N tokens at a time, one after another; on GPUs over a context gathered N tokens at a
                    time (default: prompts join the other texts' steps, 256 tokens a step)
  --interleave N    consecutive tokens a rank stores before the next rank's turn; divides --block-size (default 1)
  --block-size N    tokens per KV block (default 16)
  --kv-weights W,W  shares of the KV cache of the ranks that split its tokens: 3,1 where the first stores three times what
                    the second does; one for each of the --dcp ranks (default: by --kv-bytes, or equal ones)
  --kv-bytes S,S    memory that each of these ranks has for it, as 3GiB,1GiB: its shares follow, and what does not fit is
                    refused (default: as much as is needed)
  --backend B       webgpu, wasm, reference or auto (default: webgpu on a hardware GPU, else wasm)
  --combine C       ag-rs, a2a, one-shot or auto: how the ranks' partial results are combined (default auto)
  --deterministic D what the bits of logits may depend on besides the text: rank-order: on how the model is spread over
                    ranks (default); world-invariant: not on that either, so that any number of ranks gives the same
  --weights W       stored: matrices of weights are kept in the dtype that the checkpoint has (default); int8: in int8,
                    with a scale for every 32 elements of a row
  --kv T            f32, f16, bf16, fp8 (e4m3) or int8: type of the cached keys and values (default f32)
  --kv-dtype T      another name for --kv
  --kv-scales S     per-token: every token and KV head has scales of its own in fp8 and int8 (default); static: one for
                    each layer and KV head, from the prompts' first 256 tokens
  --explain [N]     explain step N (prompts' steps count; default: the last): who holds which tokens, each rank's share
                    in the result, what was exchanged
  --explain-json F  write the explanation to a file as JSON, all heads and layers
  --verify          generate the same on one rank, one text after another, and compare; exit code 1 on a difference
  --expect FILE     generate for every entry of a JSON file of prompts and expected token ids, and compare; exit code 1
                    on a difference
  --model DIR       folder of a Llama, Mistral, Qwen2 or Qwen3 model in Hugging Face format (default: the one that comes
                    with the demo)
  --software-vulkan accept a software adapter for --backend webgpu (for tests: slow)
  --gpus N          spread the ranks over N GPUs, round-robin (default: all there are; choosing among several needs
                    Mesa's device-select layer, in Debian's package mesa-vulkan-drivers)
  --shared-gpu      one rank of those on a GPU holds the device and runs the others' attention with its own: the same
                    tokens, in fewer GPU context switches
  --help            show this

exit codes: 0 done, 1 a difference or a failure, 2 bad options or an unusable model
`;
