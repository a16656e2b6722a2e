# Node gives every signal its usual effect at its start, so what is to be ignored (nohup) has to be found out before.
HEADGATE_IGNORED_SIGNALS=
case " $* " in
*" run "* | *" start "*)
	for signal in HUP INT QUIT TERM; do
		# What is ignored stays so in a child; anything else ends it.
		if sh -c "ulimit -c 0; kill -$signal \$\$"; then
			HEADGATE_IGNORED_SIGNALS="$HEADGATE_IGNORED_SIGNALS $signal"
		fi
	done 2>/dev/null
	;;
esac
export HEADGATE_IGNORED_SIGNALS
exec node "$0" "$@"
