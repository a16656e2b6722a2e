/**
 * What a shell needs to ask `headgate complete -- WORDS…` when Tab is pressed. Each takes the words as they are typed:
 * nothing of a half-written command line is ever evaluated, and no other package of the shell is needed.
 *
 * The answer has a line for each suggestion, `value<TAB>description`, and a last one: `:0` when file names fit as well.
 */

export const SHELLS = ["bash", "zsh", "fish"] as const;
export type Shell = (typeof SHELLS)[number];

// bash parts words at `:` and `=`, which names may have, and replaces only what comes after the last of them.
const BASH = `# bash completion for headgate
_headgate() {
	local line=\${COMP_LINE:0:COMP_POINT} words=() current kept value
	read -ra words <<<"$line"
	[[ $line == *[[:space:]] ]] && words+=("")
	current=\${words[\${#words[@]}-1]}
	kept=
	[[ $COMP_WORDBREAKS == *:* ]] && kept=\${current%"\${current##*[:=]}"}
	COMPREPLY=()
	while IFS= read -r value; do
		case $value in
			:0) compopt -o bashdefault -o default 2>/dev/null ;;
			:*) ;;
			*) value=\${value%%$'\\t'*}; COMPREPLY+=("$(printf %q "\${value#"$kept"}")") ;;
		esac
	done < <(headgate complete -- "\${words[@]:1}" 2>/dev/null)
}
complete -F _headgate headgate
`;

const ZSH = `#compdef headgate
# zsh completion for headgate
_headgate() {
	local -a lines values
	local line
	lines=("\${(@f)$(headgate complete -- "\${(@Q)words[2,CURRENT]}" 2>/dev/null)}")
	for line in "\${(@)lines[1,-2]}"; do
		values+=("\${\${line%%$'\\t'*}//:/\\\\:}:\${line#*$'\\t'}")
	done
	(( $#values )) && _describe -V headgate values
	[[ $lines[-1] == :0 ]] && _files
}
compdef _headgate headgate
`;

const FISH = `# fish completion for headgate
function __headgate_complete
	set -l words (commandline -opc) (commandline -ct)
	for line in (headgate complete -- $words[2..-1] 2>/dev/null)
		switch $line
			case ':0'
				__fish_complete_path (commandline -ct)
			case ':*'
			case '*'
				printf '%s\\n' $line
		end
	end
end
complete -c headgate -f -a '(__headgate_complete)'
`;

export const COMPLETIONS: Record<Shell, string> = { bash: BASH, zsh: ZSH, fish: FISH };
