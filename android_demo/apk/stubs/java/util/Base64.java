package java.util;

/** What the app uses of API 26, for the android.jar of the smoke build is of API 23. Compiled against only. */
public class Base64 {
    public static Decoder getDecoder() {
        throw new UnsupportedOperationException();
    }

    public static Encoder getEncoder() {
        throw new UnsupportedOperationException();
    }

    public static class Encoder {
        public String encodeToString(byte[] data) {
            throw new UnsupportedOperationException();
        }
    }

    public static class Decoder {
        public byte[] decode(String text) {
            throw new UnsupportedOperationException();
        }
    }
}
