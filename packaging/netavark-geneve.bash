# bash completion for netavark-geneve(8)
_netavark_geneve() {
    local word=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} words
    case $previous in
        --socket) compopt -o default && return ;;
        --idle) return ;;
    esac
    case ${COMP_WORDS[1]} in
        reload) words="--watch --help" ;;
        gc) words="--apply --json --help" ;;
        doctor) words="--all --json --help" ;;
        helper) words="--socket --idle --help" ;;
        *) words="reload gc doctor helper --version --help" ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
}
complete -F _netavark_geneve netavark-geneve
