package android.os;

/** What the app uses of API 24, for the android.jar of the smoke build is of API 23. Compiled against only. */
public class Process {
    public static long getStartElapsedRealtime() {
        throw new UnsupportedOperationException();
    }
}
