# Lists of CPUs as the kernel, numactl and systemd write them.
let
  # [ 0 1 2 5 ] -> [ { first = 0; last = 2; } { first = 5; last = 5; } ]
  ranges = builtins.foldl' (
    done: cpu:
    let
      count = builtins.length done;
      before = builtins.elemAt done (count - 1);
      others = builtins.genList (builtins.elemAt done) (count - 1);
    in
    if count > 0 && before.last + 1 == cpu then
      others ++ [ (before // { last = cpu; }) ]
    else
      done
      ++ [
        {
          first = cpu;
          last = cpu;
        }
      ]
  ) [ ];
  show =
    range:
    if range.first == range.last then
      toString range.first
    else
      "${toString range.first}-${toString range.last}";
in
{
  # [ 0 1 2 5 ] -> "0-2,5"; in any order, and each once.
  toText =
    cpus:
    let
      sorted = builtins.sort builtins.lessThan cpus;
      distinct = builtins.foldl' (
        done: cpu: if builtins.elem cpu done then done else done ++ [ cpu ]
      ) [ ] sorted;
    in
    builtins.concatStringsSep "," (map show (ranges distinct));
}
