# Runs with the disk as its root. Input and report lie in /.test-environment, a file system of its own.
export PATH=/.test-environment/bin
order=/.test-environment
cd /
: > $order/report
changed() { echo "changed $1" >> $order/report; }
fail() { echo "failed $*" >> $order/report; exit 1; }
touch_list() { [ -e "$order/$1" ] || : > "$order/$1"; }
for list in remove disable current hosts; do touch_list $list; done
agent=etc/update-agent/agent.json

while IFS= read -r pattern; do
    IFS='
'
    for path in $pattern; do # a pattern becomes the paths that fit
        [ -e "$path" ] || [ -L "$path" ] || continue
        rm -rf "$path" || fail "$path cannot be removed"
        changed "$path"
    done
    unset IFS
done < $order/remove

while read -r service; do
    if [ -d etc/systemd ] && [ "$(readlink "etc/systemd/system/$service.service")" != /dev/null ]; then
        mkdir -p etc/systemd/system
        rm -f "etc/systemd/system/$service.service"
        ln -s /dev/null "etc/systemd/system/$service.service" || fail "$service cannot be disabled"
        changed "etc/systemd/system/$service.service"
    fi
    if [ -x "etc/init.d/$service" ]; then
        chmod a-x "etc/init.d/$service" || fail "$service cannot be disabled"
        changed "etc/init.d/$service"
    fi
done < $order/disable

if [ -d $order/files ]; then
    find $order/files -type f > $order/found
    while IFS= read -r file; do
        path=${file#"$order/files/"}
        [ -f "$path" ] && [ ! -L "$path" ] && cmp -s "$file" "$path" && continue
        mkdir -p "$(dirname "$path")" && rm -rf "$path" && cp -p "$file" "$path" || fail "$path cannot be written"
        changed "$path"
    done < $order/found
fi

if [ -s $order/hosts ]; then
    [ ! -e etc/hosts ] || sed -i '/# test environment$/d' etc/hosts
    cat $order/hosts >> etc/hosts || fail "etc/hosts cannot be written"
fi

root=
if [ -f $agent ]; then
    root=$(tr -d '\n' < $agent | sed -n 's/.*"root" *: *"\([^"]*\)".*/\1/p')
    case $root in
    "") ;;
    /*) root=${root#/} ;;
    *) root=etc/update-agent/$root ;;
    esac
    echo "agent $(head -c 8000 $agent | base64 | tr -d '\n')" >> $order/report
fi
if [ -n "$root" ] && [ -d "$root" ]; then
    while read -r product version; do
        [ -d "$root/$product/versions/$version" ] || fail "$product $version is not on the disk"
        rm -f "$root/$product/current"
        ln -s "versions/$version" "$root/$product/current" || fail "$product cannot be set to $version"
    done < $order/current
    for folder in "$root"/*; do
        [ -d "$folder/versions" ] || continue
        current=$(readlink "$folder/current")
        echo "product ${folder##*/} ${current#versions/}" >> $order/report
        for version in "$folder"/versions/*; do
            [ -d "$version" ] && echo "version ${folder##*/} ${version##*/}" >> $order/report
        done
    done
fi
[ -f etc/os-release ] && sed -n 's/^PRETTY_NAME=/system /p' etc/os-release | tr -d '"' >> $order/report
exit 0
