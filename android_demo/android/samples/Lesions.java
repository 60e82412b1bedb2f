import android.content.Context;
import java.io.File;
import java.util.Map;
import org.classkinfy.android.AssetBundle;
import org.classkinfy.bundle.BundleConstants;
import org.classkinfy.core.Answer;
import org.classkinfy.core.ClasskinfyException;
import org.classkinfy.core.ClasskinfyPipeline;
import org.classkinfy.core.Listener;

/** Off the main thread: the first call unpacks the bundle. */
final class Lesions {
    static String describe(Context context, byte[] jpeg) throws ClasskinfyException {
        File folder = AssetBundle.install(context, BundleConstants.ASSET, BundleConstants.SHA256);
        try (ClasskinfyPipeline pipeline = ClasskinfyPipeline.open(folder)) {
            Answer answer = pipeline.analyse(jpeg, new Listener() {
                @Override
                public void onDiagnosis(String diagnosis, float confidence, Map<String, Float> probabilities) {
                    System.out.println("before severity is known: " + diagnosis);
                }
            });
            return answer.getDiagnosis() + ", severity (proxy grade) " + answer.getSeverity()
                    + "\n" + answer.getDisclaimer() + "\n" + answer.getSeverityNotice();
        }
    }
}
