# A word of a command line as systemd reads it: `%` and `$` stand for themselves, and what it would split or unquote is quoted.
# Only a word that begins with %d/, the directory of the unit's credentials, keeps its meaning.
word:
let
  isCredential = builtins.substring 0 3 word == "%d/";
  literal = builtins.replaceStrings [ "%" "$" ] [ "%%" "$$" ] word;
  isPlain = builtins.match "[][A-Za-z0-9_./:=,@%$+-]+" literal != null;
in
if isCredential then
  word
else if isPlain then
  literal
else
  builtins.toJSON literal
